"""A hand-made comparison on the terminal, as Markdown, as HTML, as JSON and as W&B tables."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import wandb
from rich.console import Console

from velm_train.core.comparison import (
    ALL_IMAGES,
    ComparedRun,
    Comparison,
    CurvePoint,
    ImageMatch,
    PairedTest,
    RunCost,
    RunPair,
    SeedGroup,
    SettingDifference,
    SkippedFolder,
    Spread,
)
from velm_train.core.errors import ArtifactError
from velm_train.core.scores import PairedDifference, Score
from velm_train.reporting import compare_words
from velm_train.reporting.compare_figures import RECALL, shown_figures
from velm_train.reporting.compare_file import read_comparison, write_comparison
from velm_train.reporting.compare_markdown import render_markdown
from velm_train.reporting.compare_notices import comparison_notices
from velm_train.reporting.compare_page import render_compare_page
from velm_train.reporting.compare_plots import difference_strip, forest_plot, loss_plot, seconds_plot
from velm_train.reporting.compare_tables import terminal_tables, wandb_tables


def figure(value, *, width=0.03):
    return Score(value=value, low=value - width, high=value + width, n=40, k=None, interval="bootstrap", note="")


def run_of(label, recall, *, seed=0, marks=()):
    return ComparedRun(
        label=label,
        name=f"textures/<{label}>_long_name_of_a_run_2026-01-01",
        folder=f"outputs/{label}",
        source="run folder",
        seed=seed,
        num_images=60,
        marks=marks,
        scores={
            RECALL: figure(recall),
            f"{RECALL}/seen": figure(recall + 0.02),
            f"{RECALL}/unseen": figure(recall - 0.04),
            "system/normal_recall": figure(0.95),
            "gate/image_auroc": figure(0.9),
            "gate/miss_rate": Score.undefined("no defects"),
            "gate/false_alarm_rate": figure(0.04),
        },
        cost=RunCost(
            seconds_per_image={"detect": 0.02, "answer": 0.3, "all stages": 0.25},
            wall_seconds=250.0,
            reused_stages=("detect",),
            peak_memory_bytes=4_000_000_000,
            accelerator_peak_bytes=None,
        ),
        curve=tuple(CurvePoint(step=step, loss=5.0 / step) for step in range(1, 30)),
    )


def a_test(images, *, p_value, first=9, other=2):
    difference = figure(-0.06)
    paired = PairedDifference(
        difference=difference, num_only_first_right=first, num_only_other_right=other, mcnemar_p_value=p_value / 3
    )
    return PairedTest(images=images, num_images=40, paired=paired, adjusted_p_value=p_value)


@pytest.fixture
def comparison() -> Comparison:
    runs = (run_of("A", 0.9), run_of("B", 0.8, seed=1), run_of("C", 0.85, marks=("gate: oracle",)))
    complete = ImageMatch(num_shared=60, num_only_first=0, num_only_other=0, num_changed=0, num_relabelled=0)
    partial = replace(complete, num_shared=40, num_only_first=20, num_changed=3)
    pairs = (
        RunPair(
            first="A",
            other="B",
            match=complete,
            tests=(a_test(ALL_IMAGES, p_value=0.01), a_test("seen", p_value=0.4)),
            note="",
        ),
        RunPair(
            first="A", other="C", match=partial, tests=(a_test(ALL_IMAGES, p_value=0.3),), note="on the 40 images alone"
        ),
        RunPair(first="B", other="C", match=None, tests=(), note="no test: nobody knows"),
    )
    return Comparison(
        title="comparison <b>",
        runs=runs,
        differences=(
            SettingDifference(key="lora.r", values=("8", "4", "8")),
            SettingDifference(key="new.setting", values=(None, '"a|b"', None)),
        ),
        num_equal=120,
        circumstances=(SettingDifference(key="commit", values=("aa", "bb", "aa")),),
        pairs=pairs,
        seed_groups=(
            SeedGroup(
                labels=("A", "B"), seeds=(0, 1), repeats=(), figures={RECALL: Spread(mean=0.85, std=0.0707, n=2)}
            ),
        ),
        sweeps=(),
        skipped=(SkippedFolder(folder="outputs/x", reason="not finished: no results.json"),),
        notices=("A notice <i>.",),
        num_bootstrap=1000,
        seed=0,
    )


class Checker(HTMLParser):
    """Notes unclosed tags and what would load something."""

    void = frozenset({"meta", "br", "img", "link", "input", "hr", "rect", "line", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        attributes = dict(attrs)
        if tag not in self.void:
            self.open.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        if tag in {"script", "link", "iframe"} or any(name in attributes for name in ("src", "onload", "onclick")):
            self.loads.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        assert tag in self.void, attrs

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def test_page_is_one_file_without_scripts_and_escapes_names(comparison) -> None:
    page = render_compare_page(comparison)
    checker = Checker()
    checker.feed(page)
    assert (checker.open, checker.loads) == ([], [])
    assert len(set(checker.ids)) == len(checker.ids)
    assert all(f'id="{link}"' in page for link in re.findall(r'href="#([^"]+)"', page))
    assert "comparison &lt;b&gt;" in page
    assert "A notice &lt;i&gt;." in page
    assert "textures/&lt;A&gt;" in page
    assert "no test: nobody knows" in page
    assert "gate: oracle" in page


def test_page_without_pairs_seeds_or_history_is_made(comparison) -> None:
    bare = [replace(run, curve=(), cost=replace(run.cost, seconds_per_image={})) for run in comparison.runs]
    page = render_compare_page(replace(comparison, pairs=(), seed_groups=(), notices=(), runs=tuple(bare)))
    assert "No two runs have predictions" in page
    assert "Training loss" not in page
    assert "Means over seeds" not in page


def test_terminal_tables_fit_and_say_who_is_better(comparison) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100)
    for table in terminal_tables(comparison):
        console.print(table)
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert "A better" in text
    assert "no test" in text
    assert "92.0 [89.0\N{EN DASH}95.0]" in text
    assert "90.0 [" not in text, "recall stands group by group"
    assert "120 settings are equal" in text


def test_markdown_tables_have_as_many_cells_as_headings(comparison) -> None:
    text = render_markdown(comparison)
    widths: set[int] = set()
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        widths = widths | {cells} if cells else set()
        assert len(widths) <= 1, line
    assert "a\\|b" in text
    assert "comparison \\<b>" in text
    assert "85.0 ± 7.1" in text


def test_json_comes_back_equal_and_other_versions_are_refused(comparison, tmp_path: Path) -> None:
    path = tmp_path / "comparison.json"
    write_comparison(comparison, path)
    assert read_comparison(path) == comparison
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 0}))
    with pytest.raises(ArtifactError, match="schema version 0, expected 2"):
        read_comparison(path)
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="schema version None"):
        read_comparison(path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_comparison(tmp_path / "absent.json")


def test_wandb_takes_every_table(comparison) -> None:
    tables = {table.name: table for table in wandb_tables(comparison)}
    assert set(tables) == {"runs", "pairs", "settings"}
    for table in tables.values():
        made = wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
        assert len(made.data) == len(table.rows)
    runs = tables["runs"]
    assert runs.rows[1][runs.columns.index(RECALL)] == 0.8
    assert len(tables["pairs"].rows) == 3


def test_verdict_follows_the_corrected_p_value_and_the_counts(comparison) -> None:
    first, second, _ = comparison.pairs
    assert compare_words.better_run(first, first.tests[0]) == ("A", "B")
    assert compare_words.better_run(first, first.tests[1]) is None
    assert compare_words.verdict(second, second.tests[0]) == "no difference shown"
    turned = a_test(ALL_IMAGES, p_value=0.01, first=1, other=9)
    assert compare_words.better_run(first, turned) == ("B", "A")


def test_headline_names_a_best_run_only_on_equal_images(comparison) -> None:
    assert "highest" not in compare_words.headline(comparison)
    assert "A is right more often than B" in compare_words.headline(comparison)
    alike = replace(comparison, runs=comparison.runs[:2], pairs=comparison.pairs[:1])
    assert "A with 90.0" in compare_words.headline(alike)
    tied = replace(alike, runs=(alike.runs[0], replace(alike.runs[0], label="B")))
    assert "highest" not in compare_words.headline(tied)
    assert "no pair could be tested" in compare_words.headline(replace(comparison, pairs=()))


def test_groups_get_columns_of_their_own(comparison) -> None:
    keys = [one.key for one in shown_figures(comparison.runs)]
    assert keys[:3] == [RECALL, f"{RECALL}/seen", f"{RECALL}/unseen"]
    assert [one.lines for one in shown_figures(comparison.runs)[:2]] == [("End", "to end"), ("End to end", "seen")]


def test_drawings_are_told_in_words(comparison) -> None:
    assert "A 90.0; B 80.0; C 85.0" in forest_plot(comparison.runs, key=RECALL, title="recall")
    assert forest_plot(comparison.runs, key="unheard", title="x") == ""
    assert "A ends at 0.172" in loss_plot(comparison.runs)
    assert "A 0.32" in seconds_plot(comparison.runs, stages=("detect", "answer"))
    strip = difference_strip(figure(-0.06), reach=0.1, label="B against A")
    assert 'aria-label="B against A: \N{MINUS SIGN}6.0 points"' in strip
    assert 'cx="20.0"' in strip


def test_zero_differences_and_single_points_can_be_drawn(comparison) -> None:
    flat = replace(comparison.runs[0], curve=tuple(CurvePoint(step=i, loss=1.0) for i in (1, 2)))
    assert "<polyline" in loss_plot([flat])
    assert loss_plot([replace(flat, curve=flat.curve[:1])]) == ""
    assert "<circle" in forest_plot([comparison.runs[0]], key=RECALL, title="x")


def test_many_notices_of_one_kind_are_counted(comparison) -> None:
    skipped = [SkippedFolder(folder=f"f{i}", reason="r") for i in range(9)]
    said = comparison_notices(
        comparison.runs,
        [],
        [],
        skipped,
        sweeps=(),
        circumstances=["machine"],
        remarks={"A": "old", "B": "old", "C": ""},
    )
    assert "A, B: old." in said
    assert "4 more folders are not compared." in said
    assert any("different machines" in notice for notice in said)
    assert said[0].startswith("C: gate: oracle")
