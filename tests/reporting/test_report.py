"""The page is whole, self-contained, escaped and accessible."""

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from velm_train.core.errors import DataError
from velm_train.reporting import report
from velm_train.reporting.report import render_report, write_report

_VOID = {"meta", "br", "img", "input", "rect", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.ids = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


@pytest.fixture
def text(content):
    return render_report(content)


def test_every_tag_is_closed_in_order(text):
    assert Page(text).open == []


def test_page_needs_no_other_file_and_allows_none(text):
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in {"link", "iframe"}]
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")
    addresses = [v for _, attributes in page.tags for k, v in attributes.items() if k in {"src", "href"}]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "url(" not in text
    assert not re.search(r"https?:|//[a-z]", re.sub(r'src="data:[^"]*"', "", text))


def test_links_inside_the_page_have_targets(text):
    page = Page(text)
    targets = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    assert set(targets) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_pictures_and_drawings_have_words_and_tables_have_headers(text):
    page = Page(text)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_text_from_outside_is_escaped(text):
    assert "a run &lt;script&gt;" in text
    assert "name: &lt;b&gt;" in text
    assert "nothing &lt;passed&gt;" in text


@pytest.mark.parametrize(
    "said",
    [
        "Of 100 defective parts, 70 are flagged and named right",
        "Categories never seen in tuning",
        "image-blind",
        "trivial",
        "McNemar p 0.065",
        "At most 0.05, marginally.",
        "a clean cut",
        "This gate is an oracle.",
        "with uncommitted changes",
        "Apache-2.0",
        "f" * 64,
        "prefers-color-scheme: dark",
        "reused",
        "better than “majority type”, which looks at no picture: +30.0 points, +25.0 to +35.0",
        "no mask &lt;known&gt;",
        "0 to 3",
        "nut: 14 named right, 1 missed by the gate, 1 flagged, but “no defect” answered, 3 wrong type, 1 none of these",
        "names that mean nothing",
        "object not named",
        "1 of 30 test images, chosen by their names alone: 1 of 3 wrong name.",
        "Second look” outlines the cells",
        "The gate flags an image if",
        "one that goes by the place in the list keeps the same type",
    ],
)
def test_page_says(text, said):
    assert said in text


def test_collapse_of_the_run_is_read_first_and_of_rows_beside_it_not(content):
    rows = content.scoreboard.rows
    collapsed = replace(rows[0].scores.overall.collapse, alarm=True, note="90% of the answers are 'cut'")
    changed = tuple(
        replace(row, scores=replace(row.scores, overall=replace(row.scores.overall, collapse=collapsed)))
        for row in rows
    )
    page = render_report(replace(content, scoreboard=replace(content.scoreboard, rows=changed)))
    assert page.count("answers collapsed onto few types") == 1
    assert f"{rows[0].name}: answers collapsed" in page


def test_one_group_alone_is_shown_once(content):
    row = content.scoreboard.rows[0]
    single = replace(row, scores=replace(row.scores, groups=row.scores.groups[:1]))
    page = render_report(replace(content, scoreboard=replace(content.scoreboard, rows=(single,))))
    assert "All categories" in page
    assert "Categories seen in tuning" not in page
    assert '<table class="confusion">' in page


def test_page_without_examples_gates_and_timing_is_still_whole(content):
    manifest = replace(content.manifest, checkout=None, stages=(), hashes={}, seeds={})
    facts = replace(content.page, notices=(), gates=(), errors=(), shown=(), licences=(), display_names={})
    bare = replace(content, page=facts, examples=(), language=(), manifest=manifest)
    page = render_report(bare)
    assert Page(page).open == []
    assert "not a git checkout" in page
    assert "No examples were kept." in page


def test_reason_for_missing_second_looks_is_said(content):
    facts = replace(content.page, second_looks=(), second_look_note="there is <no> adapter")
    page = render_report(replace(content, page=facts))
    assert "The second look is not drawn: there is &lt;no&gt; adapter." in page


def test_filter_for_abstention_is_offered_only_if_the_run_abstains(content):
    assert 'name="look"' in render_report(content)
    assert 'name="look"' not in render_report(replace(content, page=replace(content.page, abstain_below=0.0)))


def test_errors_of_several_categories_are_added_up_first(content):
    one = content.page.errors[0]
    page = render_report(replace(content, page=replace(content.page, errors=(one, replace(one, category="bolt")))))
    assert page.index('<th scope="row">all</th>') < page.index('aria-label="nut: 14 named right')
    assert "all: 28 named right, 2 missed by the gate" in page


def test_report_without_a_row_is_refused(content):
    with pytest.raises(DataError, match="without a scoreboard row"):
        replace(content, scoreboard=replace(content.scoreboard, rows=()))


def test_page_is_written_whole(content, tmp_path):
    write_report(content, tmp_path / "out" / "report.html")
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8") == render_report(content)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def test_dark_colours_are_for_screens_in_every_style():
    styles = sorted((Path(report.__file__).parent / "templates").glob("*.css"))
    assert len(styles) >= 5
    dark = [line for style in styles for line in style.read_text().splitlines() if "prefers-color-scheme" in line]
    assert dark == ["@media screen and (prefers-color-scheme: dark) {"] * 3
