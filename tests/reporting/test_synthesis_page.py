"""The page of synthetic defects is whole, self-contained, escaped, and shows every type."""

from html.parser import HTMLParser

import numpy as np
import pytest

from velm_train.reporting.synthesis_page import (
    CategorySection,
    SynthesisContent,
    TypeSection,
    render_synthesis_page,
    show_example,
    write_synthesis_page,
)

_VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def example(*, size_hw=(300, 460), box=(100, 40, 120, 60)):
    clean = np.random.default_rng(0).integers(0, 255, (*size_hw, 3)).astype(np.uint8)
    gt_mask = np.zeros(size_hw, dtype=np.bool_)
    gt_mask[box[0] : box[2], box[1] : box[3]] = True
    defect = np.where(gt_mask[..., None], 255 - clean, clean).astype(np.uint8)
    return show_example(clean, defect, gt_mask, image="a/test/x/000.png", source="set/a/train/good/1.png", side="train")


@pytest.fixture(scope="module")
def content() -> SynthesisContent:
    kinds = [("scratch", ("scratch",)), ("chipped_edge", ("missing_part", "crack"))]
    types = tuple(
        TypeSection(defect_type=name, operators=operators, num_images=12, examples=(example(),))
        for name, operators in kinds
    )
    return SynthesisContent(
        title="bolts <M6>",
        notices=("Type color is left out & said to be.",),
        facts={"seed": "3"},
        categories=tuple(
            CategorySection(name=name, num_train_good=9, num_test_good=4, types=types) for name in ("bolt", "nut")
        ),
        command="python -m velm_train dataset=mvtec_style dataset.root=made",
    )


def test_page_shows_every_type_of_every_category_three_ways(content) -> None:
    text = render_synthesis_page(content)
    page = Page(text)
    assert page.open == []
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    expected = [
        f"{kind} on {category}: {caption}"
        for category in ("bolt", "nut")
        for kind in ("scratch", "chipped_edge")
        for caption in ("good", "defect", "mask outlined")
    ]
    assert alts == expected
    assert "missing_part, then crack; 12 images" in text
    assert "48 images with exact masks" in text
    assert content.command in text


def test_page_needs_no_script_and_no_other_file_and_escapes_names(content) -> None:
    text = render_synthesis_page(content)
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in {"script", "link", "iframe"}]
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in page.tags if tag == "img")
    assert "bolts &lt;M6&gt;" in text
    assert "<M6>" not in text
    assert "prefers-color-scheme: dark" in text


def test_a_small_defect_is_shown_larger_in_the_images_own_shape() -> None:
    small = example(size_hw=(800, 1200), box=(0, 0, 12, 12))
    assert small.shown_wh == (380, 253)  # 0.4 of 1200 x 800 is 480 x 320, reduced to 380
    assert "0.01 % of the image" in small.note or "0.02 %" in small.note
    assert example(size_hw=(200, 230), box=(10, 10, 30, 30)).shown_wh == (230, 200)


def test_write_makes_the_file(content, tmp_path) -> None:
    write_synthesis_page(content, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == render_synthesis_page(content)
