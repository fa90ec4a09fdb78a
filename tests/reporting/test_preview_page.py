"""The data preview counts right, shows every type, escapes what comes from outside and needs nothing else."""

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from velm_train.reporting.figures import jpeg_data_uri
from velm_train.reporting.preview_content import (
    MeanMax,
    NamedReason,
    PreviewContent,
    SampleCard,
    SampleOption,
    SampleRun,
    SampleSection,
    SampleView,
    Thumbnail,
    TokenRow,
    count_categories,
    count_images,
)
from velm_train.reporting.preview_page import MAX_LISTED, render_preview_page, write_preview_page

_VOID = {"meta", "br", "img"}
TIMES = "\N{MULTIPLICATION SIGN}"
URI = jpeg_data_uri(np.full((30, 50, 3), 90, dtype=np.uint8))


class Page(HTMLParser):
    """Collects tags and words, and checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split()).replace(TIMES, "x")

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def thumb(one, role):
    return Thumbnail(
        image_id=one.image_id,
        label=one.image_id.rpartition("/")[2],
        role=role,
        size_hw=one.size_hw,
        outlined=bool(one.gt_mask_paths),
        note="" if one.gt_mask_paths or not one.gt_label else "no mask",
        uri=URI,
        shown_hw=(30, 50),
    )


@pytest.fixture
def content(records, roles):
    kinds = sorted({(one.category, one.defect_type) for one in records})
    return PreviewContent(
        title="a set <script>",
        subtitle="read by a reader",
        notices=("Look at <this>.",),
        with_roles=True,
        counts=count_images(records, roles=roles),
        categories=count_categories(records, roles=roles, unseen=["<b>&"]),
        thumbnails={
            kind: tuple(thumb(one, roles[one.image_id]) for one in records if (one.category, one.defect_type) == kind)
            for kind in kinds
        },
        left_out=(NamedReason(name="1 image", reason="beyond max_normals=2"),),
        excluded=(NamedReason(name="/data/<i>.png", reason="cannot be read"),),
        samples=None,
        config_yaml="name: <b>\n",
    )


@pytest.fixture
def samples():
    numbers = MeanMax.of([10, 12, 14])
    card = SampleCard(
        sample_id="set/nut/cut/3.png#0/name_type/0",
        task="name_type",
        category="nut",
        views=(SampleView(kind="crop", image_id="set/nut/cut/3.png", uri=URI, shown_hw=(30, 50), size_hw=(300, 500)),),
        messages=(("user", "<image>\nWhich <defect>?"),),
        options=(SampleOption(answer="clean cut", meaning="cut"), SampleOption(answer="rust", meaning="rust")),
        target="clean cut",
        num_text=20,
        num_image=14,
        num_supervised=3,
        runs=(
            SampleRun(text="<|user|>", kind="text", num_tokens=1),
            SampleRun(text="<image>", kind="view", num_tokens=14),
            SampleRun(text="clean cut", kind="supervised", num_tokens=3),
        ),
        provenance={"gate_policy": "detector"},
    )
    row = TokenRow(task="name_type", num_samples=3, text=numbers, image=numbers, supervised=numbers, total=numbers)
    return SampleSection(
        cards=(card,), tokens=(row,), num_samples=3, max_tokens=13, tokens_per_view=(14, 14), num_questions=1
    )


def cells(text, header):
    """Returns the words of each cell of the rows whose first cell begins with the header."""
    found = []
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", text, flags=re.DOTALL):
        parts = [re.sub(r"<[^>]+>", " ", part) for part in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        if parts[0].split()[:1] == [header]:
            found.append([" ".join(part.split()).replace(TIMES, "x") for part in parts])
    return found


def test_tables_show_the_counts(content):
    text = render_preview_page(content)
    (row,) = cells(text, "cut")
    assert row == ["cut", "2", "1", "0", "0", "0", "1", "0", "1 of 2", "1", "100 x 60"]
    (row,) = cells(text, "nut")
    assert row == ["nut", "6", "2", "0", "1", "0", "2", "1", "2 of 3", "4", "30 x 80 to 100 x 60"]
    (row,) = cells(text, "All")
    assert row[1:] == ["7", "2", "0", "1", "0", "3", "1", "2 of 4", "5", "30 x 80 to 100 x 60"]


def test_every_image_stands_under_its_category_and_type(content):
    page = Page(render_preview_page(content))
    assert page.open == []
    words = page.text
    order = [words.index(part) for part in ("A look at the images", "bent 1 of 1", "good 3 of 3", "cut 2 of 2")]
    assert order == sorted(order)
    assert "cut+rust 1 of 1" in words
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert len(alts) == 7
    assert "nut, cut, mask outlined: 3.png" in alts
    assert "<b>&, bent: 6.png" in alts


def test_names_roles_sizes_and_missing_masks_are_always_visible(content):
    words = Page(render_preview_page(content)).text
    assert "4.png test , 100 x 60 no mask" in words
    assert "2.png left out , 30 x 80" in words
    assert words.count("no mask") == 2  # images 4 and 6; normal ones need none


def test_names_from_outside_are_escaped(content, samples):
    text = render_preview_page(replace(content, samples=samples))
    assert "<b>" not in re.sub(r"<figcaption>.*?</figcaption>", "", text, flags=re.DOTALL)
    for said in (
        "a set &lt;script&gt;",
        "&lt;b&gt;&amp;",
        "Look at &lt;this&gt;.",
        "/data/&lt;i&gt;.png",
        "&lt;defect&gt;",
    ):
        assert said in text, said


def test_page_needs_no_script_and_no_other_file(content, samples):
    page = Page(render_preview_page(replace(content, samples=samples)))
    assert not [tag for tag, _ in page.tags if tag in {"script", "link", "iframe"}]
    addresses = [v for _, attributes in page.tags for k, v in attributes.items() if k in {"src", "href"}]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(ids)


def test_headings_step_by_one_and_tables_have_headers(content, samples):
    page = Page(render_preview_page(replace(content, samples=samples)))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    assert "prefers-color-scheme: dark" in render_preview_page(content)


@pytest.mark.parametrize(
    ("shown_hw", "expected"), [((30, 50), ("176", "106")), ((200, 20), ("18", "176")), ((1, 500), ("176", "1"))]
)
def test_thumbnails_keep_their_shape(content, shown_hw, expected):
    bent = replace(content.thumbnails["<b>&", "bent"][0], shown_hw=shown_hw)
    page = Page(render_preview_page(replace(content, thumbnails={**content.thumbnails, ("<b>&", "bent"): (bent,)})))
    (image,) = [attributes for tag, attributes in page.tags if tag == "img" and "bent" in attributes["alt"]]
    assert (image["width"], image["height"]) == expected


def test_image_that_cannot_be_read_has_its_place(content):
    broken = replace(content.thumbnails["<b>&", "bent"][0], uri="", note="image 6.png cannot be read (truncated)")
    page = Page(render_preview_page(replace(content, thumbnails={**content.thumbnails, ("<b>&", "bent"): (broken,)})))
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 6
    assert "image 6.png cannot be read (truncated)" in page.text


def test_page_without_roles_has_no_columns_for_them(content, records):
    bare = replace(
        content,
        with_roles=False,
        counts=count_images(records, roles={}),
        categories=count_categories(records, roles={}, unseen=[]),
        left_out=(),
    )
    text = render_preview_page(bare)
    (row,) = cells(text, "cut")
    assert row == ["cut", "2", "1 of 2", "1", "100 x 60"]
    assert "Without an image to train on" not in text
    assert 'class="split"' not in text


def test_parts_are_counted_only_where_one_is_seen_several_times(content, records, roles):
    alone = [one for one in records if one.group_id == one.image_id]
    single = replace(
        content,
        counts=count_images(alone, roles=roles),
        categories=count_categories(alone, roles=roles, unseen=[]),
    )
    assert ">Parts</th>" in render_preview_page(content)
    assert ">Parts</th>" not in render_preview_page(single)


def test_types_that_training_gets_none_of_are_named(content):
    words = Page(render_preview_page(content)).text
    assert "Without an image to train on: cut+rust." in words
    assert "bent." not in words  # of a category that training never sees


def test_excluded_files_are_named_up_to_a_limit(content):
    many = tuple(NamedReason(name=f"file {i:04d}", reason="torn") for i in range(MAX_LISTED + 25))
    words = Page(render_preview_page(replace(content, excluded=many))).text
    assert "325 images that cannot be used" in words
    assert f"file {MAX_LISTED - 1:04d}" in words
    assert f"file {MAX_LISTED:04d}" not in words
    assert "and 25 more" in words


def test_many_categories_are_folded_away_but_the_first(content, make_record):
    names = [f"c{i}" for i in range(9)]
    moved = [make_record(name, category=name) for name in names]
    roles = {one.image_id: "train" for one in moved}
    page = Page(
        render_preview_page(
            replace(
                content,
                counts=count_images(moved, roles=roles),
                categories=count_categories(moved, roles=roles, unseen=[]),
                thumbnails={(one.category, "good"): (thumb(one, "train"),) for one in moved},
                excluded=(),
            )
        )
    )
    folds = [attributes for tag, attributes in page.tags if attributes.get("class") == "category"]
    assert ["open" in attributes for attributes in folds] == [True] + 8 * [False]


def test_samples_show_views_messages_options_target_and_tokens(content, samples):
    text = render_preview_page(replace(content, samples=samples))
    words = Page(text).text
    assert "20 text + 14 image tokens, 3 supervised" in words
    assert "View 1: crop, 500 x 300" in words
    assert "answer to learn clean cut" in words
    assert "clean cut cut rust" in words  # the option with the type it stands for
    assert '<li class="chosen">clean cut' in text
    assert "<mark>clean cut</mark>" in text
    assert "<image> x 14" in words
    assert cells(text, "name_type") == [["name_type", "3", *(4 * ["12.0", "14"])]]
    assert 'class="figure over">14' in text  # beyond max_tokens=13
    assert "1 test image passes the gate" in words


def test_page_without_samples_says_nothing_of_them(content):
    text = render_preview_page(content)
    assert "#samples" not in text
    assert "What the model is taught" not in text


def test_page_is_written_whole(content, tmp_path):
    write_preview_page(content, tmp_path / "out" / "preview.html")
    assert (tmp_path / "out" / "preview.html").read_text(encoding="utf-8") == render_preview_page(content)
