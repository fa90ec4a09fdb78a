"""Training pictures change from visit to visit, alike within a sample, and never where that would change the answer."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from velm_train.core.appearance import AS_IT_IS, Appearance
from velm_train.core.images import read_rgb
from velm_train.core.records import InstructionSample, Message, Option, View
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType, read_taxonomy
from velm_train.datasets.taxonomies import taxonomy_path
from velm_train.pipeline.augmentation import AugmentationSettings, Augmenter, shown_view
from velm_train.pipeline.views import render_view, view_key

SIZE_HW = (40, 60)
NOTHING = AugmentationSettings(flips=False, quarter_turns=False, brightness=0.0, contrast=0.0)
EVERYTHING = AugmentationSettings(flips=True, quarter_turns=True, brightness=0.1, contrast=0.2)


def category(*, orientation_matters: bool = False) -> CategoryTaxonomy:
    kinds = {
        "cut": DefectType(display_name="cut", description="", synonyms=()),
        "turned": DefectType(
            display_name="wrong side", description="", synonyms=(), orientation_matters=orientation_matters
        ),
    }
    return CategoryTaxonomy(noun="nut", normal_description="", defect_types=kinds)


def view(kind: str = "crop", *, image_id: str = "nut/1", box: tuple[int, int, int, int] = (10, 0, 30, 15)) -> View:
    contour = np.array([[12, 3], [20, 9]], dtype=np.int32) if kind == "query_contour" else np.zeros((0, 2), np.int32)
    return View(kind=kind, image_id=image_id, image_path=Path("x.png"), sha256="0" * 64, box_xyxy=box, contour=contour)


def sample(number: int = 0, *, views: tuple[View, ...] | None = None, prompt: str = "Defect:") -> InstructionSample:
    shown = (view("reference", image_id="nut/good", box=(0, 0, 30, 20)), view()) if views is None else views
    return InstructionSample(
        sample_id=f"nut/{number}",
        image_id="nut/1",
        category="nut",
        task="name_type",
        views=shown,
        messages=(Message(role="user", text="<image>" * len(shown) + prompt),),
        target="cut",
        options=(Option(answer="cut", defect_type="cut"),),
        provenance={},
    )


def augmenter(
    settings: AugmentationSettings = EVERYTHING, *, orientation_matters: bool = False, seed: int = 0
) -> Augmenter:
    return Augmenter(
        settings=settings,
        categories={"nut": category(orientation_matters=orientation_matters)},
        sizes_hw={"nut/1": SIZE_HW, "nut/good": (20, 30)},
        seed=seed,
    )


def draws(one: Augmenter, *, of: InstructionSample | None = None, number: int = 200) -> list[Appearance]:
    return [one.draw(of or sample(), visit=visit) for visit in range(number)]


def test_nothing_switched_on_is_the_sample_itself() -> None:
    one = sample()
    assert not NOTHING.active
    assert set(draws(augmenter(NOTHING))) == {AS_IT_IS}
    assert augmenter(NOTHING)(one, visit=3) is one


def test_draw_depends_on_seed_sample_and_visit_alone() -> None:
    assert draws(augmenter()) == draws(augmenter())
    assert draws(augmenter()) != draws(augmenter(seed=1))
    assert draws(augmenter()) != draws(augmenter(), of=sample(1))
    assert len(set(draws(augmenter()))) == 200


def test_switching_one_on_shifts_no_other() -> None:
    dim = dataclasses.replace(NOTHING, brightness=0.1)
    both = dataclasses.replace(dim, flips=True)
    assert [one.brightness for one in draws(augmenter(dim))] == [one.brightness for one in draws(augmenter(both))]


def test_flips_are_four_ways_turns_are_four_and_together_they_are_eight_equally_often() -> None:
    flips, turns = (dataclasses.replace(NOTHING, **{name: True}) for name in ("flips", "quarter_turns"))
    for settings, ways, expected in (
        (flips, {(False, 0), (True, 0), (True, 2), (False, 2)}, 200),
        (turns, {(False, turn) for turn in range(4)}, 200),
        (EVERYTHING, {(mirrored, turn) for mirrored in (False, True) for turn in range(4)}, 100),
    ):
        found = Counter((one.mirrored, one.quarter_turns) for one in draws(augmenter(settings), number=800))
        assert set(found) == ways
        assert all(abs(count - expected) < 0.3 * expected for count in found.values())


def test_light_stays_within_its_bounds_and_reaches_far_into_them() -> None:
    for name, bound in (("brightness", 0.1), ("contrast", 0.2)):
        values = [getattr(one, name) for one in draws(augmenter())]
        assert 1 - bound <= min(values) < 1 - 0.9 * bound
        assert 1 + 0.9 * bound < max(values) <= 1 + bound


def test_category_with_a_type_whose_orientation_matters_is_never_moved_but_lit() -> None:
    found = draws(augmenter(orientation_matters=True))
    assert not any(one.moves for one in found)
    assert len({one.brightness for one in found}) == 200
    assert augmenter(orientation_matters=True).turned(sample()) is None


@pytest.mark.parametrize(("dataset", "name"), [("mvtec_ad", "metal_nut"), ("mvtec_ad", "capsule"), ("visa", "pcb4")])
def test_shipped_rules_are_kept(dataset: str, name: str) -> None:
    """Flipped nuts, faulty imprints and misplaced parts would be made, or unmade, by mirroring."""
    known = read_taxonomy(taxonomy_path(dataset)).categories
    if dataset == "visa":
        ((name, _),) = [(key, body) for key, body in known.items() if body.orientation_matters]
    one = dataclasses.replace(augmenter(), categories=known)
    of = dataclasses.replace(sample(), category=name)
    assert not any(appearance.moves for appearance in draws(one, of=of, number=40))
    free = next(key for key, body in known.items() if not body.orientation_matters)
    assert any(appearance.moves for appearance in draws(one, of=dataclasses.replace(of, category=free), number=40))


def test_sample_that_speaks_of_places_is_never_moved() -> None:
    assert not any(one.moves for one in draws(augmenter(), of=sample(prompt="Where is the defect?")))


def test_all_views_of_a_sample_are_shown_alike_each_by_the_size_of_its_own_image() -> None:
    quarter = dataclasses.replace(NOTHING, quarter_turns=True)
    visit = next(v for v, one in enumerate(draws(augmenter(quarter))) if one.quarter_turns == 1)
    shown = augmenter(quarter)(sample(), visit=visit)
    assert {one.appearance for one in shown.views} == {Appearance(quarter_turns=1)}
    # (x0, y0, x1, y1) -> (y0, width - x1, y1, width - x0); widths are 30 and 60
    assert [one.box_xyxy for one in shown.views] == [(0, 0, 20, 30), (0, 30, 15, 50)]
    assert [one.size_hw for one in shown.views] == [(30, 20), (20, 15)]
    views = sample().views
    assert dataclasses.replace(shown, views=views) == sample(views=views)


def test_turned_form_has_the_sides_of_every_view_exchanged() -> None:
    turned = augmenter().turned(sample())
    assert [one.size_hw for one in turned.views] == [one.size_hw[::-1] for one in sample().views]
    assert augmenter(dataclasses.replace(EVERYTHING, quarter_turns=False)).turned(sample()) is None


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_rendered_part_is_the_part_moved_outline_included(parts, turns: int, *, mirrored: bool) -> None:
    """A thin outline, because a wide one is drawn around its points unevenly."""
    record = parts.one("felt", "test/spot/001.png")
    appearance = Appearance(mirrored=mirrored, quarter_turns=turns)
    outlined = dataclasses.replace(
        view("query_contour", image_id=record.image_id, box=(50, 8, 86, 40)),
        image_path=record.image_path,
        contour=np.array([[60, 12], [77, 12], [77, 29], [60, 29]], dtype=np.int32),
    )
    moved = shown_view(outlined, appearance, size_hw=record.size_hw)
    plain = render_view(outlined, contour_width_px=1)
    assert plain.shape[:2] == (32, 36)
    assert np.array_equal(render_view(moved, contour_width_px=1), appearance.plane(plain))


def test_outline_stays_red_in_any_light(parts) -> None:
    record = parts.one("felt", "test/spot/001.png")
    outlined = dataclasses.replace(
        view("query_contour", image_id=record.image_id, box=(0, 0, 96, 72)), image_path=record.image_path
    )
    dark = shown_view(outlined, Appearance(brightness=0.5), size_hw=record.size_hw)
    picture = render_view(dark, contour_width_px=1)
    assert picture[3, 12].tolist() == [255, 0, 0]
    assert picture[60, 80].tolist() == np.rint(read_rgb(record.image_path)[60, 80] * 0.5).astype(int).tolist()


def test_key_of_a_view_as_it_is_stays_and_every_appearance_has_its_own() -> None:
    plain = view(box=(0, 0, 60, 40))
    keys = {view_key(shown_view(plain, one, size_hw=SIZE_HW)) for one in draws(augmenter(), number=50)}
    assert len(keys | {view_key(plain)}) == 51
    assert view_key(shown_view(plain, AS_IT_IS, size_hw=SIZE_HW)) == view_key(plain)
