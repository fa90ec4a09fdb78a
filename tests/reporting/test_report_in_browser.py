"""The report in a real browser: it sorts, filters, is worked by keys alone, can be read, and asks for nothing."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from velm_train.core.answer_scores import AnswerReport
from velm_train.core.plain import read_record
from velm_train.core.scores import Score
from velm_train.reporting.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PATH = next((found for found in map(shutil.which, _PROGRAMS) if found), None)
_WORDS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(_PATH is None, reason=f"no browser: none of {', '.join(_PROGRAMS)} is installed"),
]

_LOW_CONTRAST = """
() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const background = (node) => {
    const layers = [];
    for (let one = node; one; one = one.parentElement) layers.push(rgba(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = { number: 0, low: [] };
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !node.getClientRects().length) continue;
    if (["SCRIPT", "STYLE", "TITLE", "DESC"].includes(node.tagName.toUpperCase())) continue;
    const style = getComputedStyle(node);
    const below = background(node);
    const ink = over(rgba(node.closest("svg") ? style.fill : style.color), below);
    const [light, dark] = [luminance(ink), luminance(below)].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    found.number += 1;
    if (contrast < 4.5) found.low.push(`${contrast.toFixed(2)} ${walker.currentNode.textContent.trim().slice(0, 40)}`);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=_PATH, args=list(_WORDS))
        yield browser
        browser.close()


@pytest.fixture
def path(content, tmp_path):
    """Two categories, all outcomes, calibrated answers, a scoreboard whose last row has no figure."""
    first = content.examples[0]
    outcomes = ("wrong name", "missed", "false alarm", "no name", "named right", "good passed")
    examples = tuple(
        replace(
            first,
            outcome=outcome,
            category=category,
            image_id=f"d/{category}/{outcome.replace(' ', '_')}.png",
            anomaly_score=float(number),
            abstained=outcome == "no name",
        )
        for number, (category, outcome) in enumerate((c, o) for c in ("nut", "bolt") for o in outcomes)
    )
    gone = Score.undefined("never asked")
    last = content.scoreboard.rows[1]
    scores = last.scores
    system = replace(scores.overall.system, end_to_end_balanced_recall=gone)
    silent = replace(last, name="silent", scores=replace(scores, overall=replace(scores.overall, system=system)))
    errors = content.page.errors[0]
    page = replace(
        content.page,
        errors=(replace(errors, unparsed=4), replace(errors, category="bolt", none_of_these=5)),
        gates=(content.page.gates[0], replace(content.page.gates[0], category="bolt")),
        display_names={"nut": {"cut": "a clean cut", "rust": "discolorations"}},
    )
    run = content.scoreboard.rows[0]
    counts = ((20, 0, 0, 0, 0), (9, 0, 0, 0, 0), (0, 0, 0, 10, 0))  # the deepest shades there are, right and wrong
    confusions = (replace(run.scores.confusions[0], counts=counts),)
    run = replace(run, scores=replace(run.scores, confusions=confusions))
    board = replace(content.scoreboard, rows=(run, *content.scoreboard.rows[1:], silent))
    answers = read_record(AnswerReport, json.loads((Path(__file__).parent / "calibrated_answers.json").read_text()))
    path = tmp_path / "report.html"
    write_report(replace(content, page=page, scoreboard=board, examples=examples, answers=answers), path)
    return path


@pytest.fixture
def open_page(browser, path):
    """Opens the page; whatever it asks for or complains of fails the test at its end."""
    contexts, asked, said = [], [], []

    def open_at(width=1200, scheme="light"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url[:60]))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:") and url != path.as_uri()[:60]] == []


def names(page):
    said = page.locator("#scoreboard table").first.locator("tbody th").all_inner_texts()
    return [text.splitlines()[0] for text in said]


def choose(page, label, option):
    page.locator("#gallery-controls").get_by_label(label).select_option(option)


def shown(page):
    return [card.get_attribute("data-image") for card in page.locator("#gallery > :visible").all()]


def test_scoreboard_sorts_by_column_both_ways_and_keeps_rows_without_a_figure_last(open_page):
    page = open_page()
    assert names(page) == ["this run", "image-blind", "majority type", "silent"]
    head = page.locator("#scoreboard table").first.locator("th", has_text="End to end:")
    head.get_by_role("button").click()
    assert names(page) == ["this run", "image-blind", "majority type", "silent"]
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").click()
    assert names(page) == ["majority type", "image-blind", "this run", "silent"]
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#scoreboard table").first.get_by_role("button", name="System").click()
    assert names(page) == ["image-blind", "majority type", "silent", "this run"]
    assert head.get_attribute("aria-sort") is None


def test_gallery_is_filtered_by_category_outcome_and_words_and_can_be_reset(open_page):
    page = open_page()
    number = page.locator("#gallery-shown")
    assert number.inner_text() == "12 of 12 images"
    choose(page, "Category", "bolt")
    choose(page, "Outcome", "missed")
    assert shown(page) == ["d/bolt/missed.png"]
    assert number.inner_text() == "1 of 12 images"
    page.get_by_role("button", name="Show all").click()
    page.wait_for_function("document.getElementById('gallery-shown').value.startsWith('12')")
    choose(page, "Left to", "person")
    assert shown(page) == ["d/nut/no_name.png", "d/bolt/no_name.png"]
    page.locator("#gallery-controls").get_by_label("Words").fill("BOLT  no_n")
    assert shown(page) == ["d/bolt/no_name.png"]


def test_gallery_sorts_by_score(open_page):
    page = open_page()
    choose(page, "Outcome", "missed")
    choose(page, "Order", "score, highest first")
    assert shown(page) == ["d/bolt/missed.png", "d/nut/missed.png"]
    choose(page, "Order", "errors first")
    assert shown(page) == ["d/nut/missed.png", "d/bolt/missed.png"]


def test_page_is_worked_by_keys_alone(open_page):
    page = open_page()
    focusable = "a[href], button, select, input, summary, [tabindex='0']"
    wanted = page.locator(focusable).locator("visible=true").count()
    assert wanted > 40
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the scoreboard"
    seen = []
    for _ in range(wanted):
        place = page.evaluate(
            "[...document.querySelectorAll('*')].indexOf(document.activeElement)"
            " + ' ' + getComputedStyle(document.activeElement).outlineStyle"
        )
        seen.append(place)
        page.keyboard.press("Tab")
    assert len(set(seen)) == wanted
    assert [place for place in seen if place.endswith(" none")] == []


def test_sorting_and_filtering_need_no_mouse(open_page):
    page = open_page()
    page.locator("#scoreboard table").first.get_by_role("button", name="System").focus()
    page.keyboard.press("Enter")
    assert names(page)[0] == "image-blind"
    page.locator("#gallery-controls").get_by_label("Outcome").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert shown(page) == ["d/nut/missed.png", "d/bolt/missed.png"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_word_stands_out_from_its_ground(open_page, scheme):
    found = open_page(scheme=scheme).evaluate(_LOW_CONTRAST)
    assert found["number"] > 200
    assert found["low"] == []


def test_dark_is_dark_and_paper_is_not(open_page):
    page = open_page(scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert max(int(part) for part in re.findall(r"\d+", page.evaluate(ground))) < 60
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert not page.locator("#gallery-controls").is_visible()
    assert page.evaluate(_LOW_CONTRAST)["low"] == []


def test_printing_unfolds_and_folds_again(open_page):
    page = open_page()
    folded = page.locator("details:not([open])").count()
    assert folded > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == folded


def test_narrow_screen_scrolls_no_page_sideways(open_page):
    page = open_page(width=400)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_wide_screen_cuts_no_table_and_no_heading_runs_into_the_next(open_page):
    page = open_page(width=1280)
    cut = "[...document.querySelectorAll('.scroll')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"
    assert page.evaluate(cut) == 0
    spilt = (
        "[...document.querySelectorAll('.confusion thead th')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
    )
    assert page.evaluate(f"{spilt}.map((one) => one.textContent)") == []


def test_headings_stand_over_their_columns_and_the_lead_is_the_largest(open_page):
    page = open_page()
    edges = """(table) => [...table.tBodies[0].rows[0].cells].map((cell, i) => [
      table.tHead.rows[0].cells[i].textContent, getComputedStyle(table.tHead.rows[0].cells[i]).textAlign,
      getComputedStyle(cell).textAlign]).filter(([name, head, body]) => name && head !== body)"""
    chosen = "#types table, #run table, .errors, #gate table, #language table"
    tables = page.locator(chosen).all()
    assert len(tables) == 6
    assert [table.evaluate(edges) for table in tables] == [[]] * 6
    size = "(one) => parseFloat(getComputedStyle(one).fontSize)"
    sizes = [page.locator(f"#headline .card{kind} .plain").first.evaluate(size) for kind in (".lead", ":not(.lead)")]
    assert sizes == [20.0, 16.8]


def test_page_reads_whole_without_its_script(browser, path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("#gallery > *").count() == 12
    assert not page.locator("#gallery-controls").is_visible()
    context.close()
