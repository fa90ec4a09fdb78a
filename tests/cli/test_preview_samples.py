"""Samples of the preview: which are chosen, what is counted, and what a card shows."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from velm_train.cli.preview_samples import Counted, choose_samples, sample_card, token_rows
from velm_train.collation.preview import TokenCounts
from velm_train.collation.render import embedded_renderer
from velm_train.core.images import write_png
from velm_train.core.records import InstructionSample, Message, Option, View


def sample(task: str, number: int, *, path: Path = Path("x.png"), contour: np.ndarray | None = None):
    view = View(
        kind="query_contour",
        image_id="set/nut/cut/0.png",
        image_path=path,
        sha256="0" * 64,
        box_xyxy=(10, 5, 90, 45),
        contour=np.zeros((0, 2), dtype=np.int32) if contour is None else contour,
    )
    return InstructionSample(
        sample_id=f"{task}/{number}",
        image_id="set/nut/cut/0.png",
        category="nut",
        task=task,
        views=(view,),
        messages=(Message(role="user", text="<image>\nDefect:"),),
        target="cut",
        options=(Option(answer="cut", defect_type="cut"), Option(answer="none of these", defect_type=None)),
        provenance={"gate_policy": "detector"},
    )


def test_samples_are_chosen_in_turns_and_every_task_has_one() -> None:
    samples = [sample("a", 0), sample("a", 1), sample("a", 2), sample("b", 0), sample("c", 0)]
    assert [one.sample_id for one in choose_samples(samples, num_samples=1)] == ["a/0", "b/0", "c/0"]
    assert [one.sample_id for one in choose_samples(samples, num_samples=4)] == ["a/0", "b/0", "c/0", "a/1"]
    assert len(choose_samples(samples, num_samples=99)) == 5
    assert choose_samples([], num_samples=3) == []


def test_token_rows_hold_mean_and_maximum_by_task_and_over_all() -> None:
    numbers = [("b", 10, 4, 2), ("a", 20, 8, 3), ("a", 30, 4, 4)]
    rows = token_rows(
        [
            Counted(sample=sample(task, 0), tokens=TokenCounts(text=text, image=image, supervised=supervised))
            for task, text, image, supervised in numbers
        ]
    )
    assert [(row.task, row.num_samples) for row in rows] == [("a", 2), ("b", 1), ("all tasks", 3)]
    assert (rows[0].text.mean, rows[0].text.maximum) == (25.0, 30)
    assert (rows[0].total.mean, rows[0].total.maximum) == (31.0, 34)
    assert (rows[2].image.mean, rows[2].image.maximum) == (16 / 3, 8)
    assert (rows[2].supervised.mean, rows[2].supervised.maximum) == (3.0, 4)


def test_card_shows_the_view_as_the_model_sees_it(assets, tmp_path: Path) -> None:
    contour = np.array([(20, 10), (80, 10), (80, 40), (20, 40)], dtype=np.int32)
    path = tmp_path / "part.png"
    write_png(np.full((60, 100, 3), 90, dtype=np.uint8), path)
    renderer = embedded_renderer(assets.ensure("smollm2_135m_instruct"), num_first_look=3, num_second_look=2)
    card = sample_card(sample("a", 0, path=path, contour=contour), renderer=renderer, contour_width_px=4)
    (view,) = card.views
    assert (view.size_hw, view.shown_hw) == ((40, 80), (40, 80))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(view.uri.partition(",")[2])))).astype(int)
    assert pixels[5, 40, 0] > 180  # row 10 of the image is row 5 of the view
    assert pixels[5, 40, 1] < 80
    assert abs(pixels[20, 40] - 90).max() < 12
    assert card.num_image == 5
    assert card.num_text + card.num_image == sum(run.num_tokens for run in card.runs)
    assert [run.text for run in card.runs if run.kind == "supervised"] == [" cut<|im_end|>"]
    assert [option.meaning for option in card.options] == ["cut", "a type that is not listed"]
