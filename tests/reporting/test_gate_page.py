"""The gate card is whole, self-contained, escaped, and says what is out of reach and what is not guaranteed."""

import dataclasses
import json
import re

import numpy as np
import pytest
from rich.console import Console

from velm_train.core.errors import ArtifactError
from velm_train.core.gate_card import (
    AlphaRow,
    CategoryGate,
    DriftReport,
    GateReport,
    JudgedImage,
    Reach,
    SuspectImage,
)
from velm_train.core.scores import LocalisationScores, Score
from velm_train.reporting.figures import Picture
from velm_train.reporting.gate_page import (
    MAX_OPEN_CATEGORIES,
    NUM_WORST,
    read_gate_card,
    render_gate_page,
    shown_images,
    write_gate_card,
)
from velm_train.reporting.gate_table import gate_table

ENDS = "1.0\N{EN DASH}50.0"


def rate(k: int, n: int) -> Score:
    return Score(value=k / n, low=0.01, high=0.5, n=n, k=k, interval="clopper-pearson", note="")


def row(alpha: float, *, reachable: bool = True) -> AlphaRow:
    if not reachable:
        missing = Score.undefined("out of reach with 19 normals")
        return AlphaRow(
            alpha=alpha,
            reachable=False,
            num_needed=99,
            threshold=None,
            promised_rate=None,
            pac_upper_95=None,
            worst_case=None,
            expected_low=None,
            expected_high=None,
            false_alarms=missing,
            misses=missing,
            verdict="not tested",
            note=missing.note,
        )
    return AlphaRow(
        alpha=alpha,
        reachable=True,
        num_needed=19,
        threshold=0.6,
        promised_rate=0.0476,
        pac_upper_95=0.139,
        worst_case=0.1,
        expected_low=0,
        expected_high=2,
        false_alarms=rate(1, 8),
        misses=rate(3, 8),
        verdict="consistent",
        note="",
    )


def images(category: str) -> tuple[JudgedImage, ...]:
    rows = []
    for use, kind, number in (("calibration", "good", 19), ("test", "good", 8), ("test", "dent", 8)):
        for index in range(number):
            name = f"set/{category}/{use}/{kind}/{index:02d}"
            p_value = None if use == "calibration" else 0.5
            score = 0.1 + 0.02 * index + (0.4 if kind == "dent" else 0.0)
            rows.append(
                JudgedImage(
                    image_id=name, group_id=name, defect_type=kind, use=use, anomaly_score=score, p_value=p_value
                )
            )
    return tuple(rows)


def category_gate(name: str = "nut") -> CategoryGate:
    suspect = f"set/{name}/calibration/good/18"
    return CategoryGate(
        category=name,
        unit="images",
        calibration="leave_one_out",
        num_calibration=19,
        num_calibration_images=19,
        image_threshold=0.6,
        pixel_threshold=0.5,
        guarantee="Calibrated on 19 <normal> images.",
        rows=(row(0.01, reachable=False), row(0.05)),
        reach=(
            Reach(alpha=0.05, reachable=True, num_needed=19, num_needed_95=59, pac_upper_95=0.139),
            Reach(alpha=0.01, reachable=False, num_needed=99, num_needed_95=299, pac_upper_95=None),
        ),
        image_auroc=rate(9, 10),
        localisation=LocalisationScores(pixel_auroc=rate(19, 20), aupro=rate(7, 8)),
        drift=DriftReport(statistic=0.4, p_value=0.0004, num_new=8, level=0.01, drifted=True),
        suspects=(SuspectImage(image_id=suspect, image_path="/data/<18>.png", anomaly_score=0.46, p_value=1e-5),),
        images=images(name),
        detector_hash="a" * 64,
        seconds_per_image=0.05,
    )


@pytest.fixture
def report() -> GateReport:
    return GateReport(
        title="bolts <M6>",
        subtitle="bolts, protocol k_shot_4",
        alpha=0.05,
        guaranteed=True,
        notices=("Scores moved & more.",),
        settings={"detector": "patchcore"},
        config_hash="c" * 64,
        rows=(row(0.01, reachable=False), row(0.05)),
        image_auroc=rate(9, 10),
        localisation=LocalisationScores(pixel_auroc=rate(19, 20), aupro=Score.undefined("no <masks>")),
        categories=(category_gate(),),
    )


def render(report: GateReport) -> str:
    picture = Picture(rgb=np.full((6, 9, 3), 90, dtype=np.uint8), alt="a part", caption="image")
    pictures = {image.image_id: (picture,) for one in report.categories for image in one.images}
    return render_gate_page(report, pictures=pictures, config_yaml="a: <b>")


def test_page_is_self_contained_and_escaped(report):
    page = render(report)
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(?!data:|#)', page) == []
    assert "bolts &lt;M6&gt;" in page
    assert "<M6>" not in page
    assert "19 &lt;normal&gt; images" in page
    assert "a: &lt;b&gt;" in page
    assert "/data/&lt;18&gt;.png" in page
    assert "prefers-color-scheme: dark" in page


def test_page_shows_promise_beside_finding_and_what_is_out_of_reach(report):
    page = " ".join(re.sub(r"<[^>]+>", " ", render(report)).split())
    assert f"5 % this run 4.8 12.5 1 of 8 {ENDS} 0 to 2 37.5 3 of 8 {ENDS} consistent" in page
    assert "1 % out of reach with 19 normals; 99 are needed out of reach" in page
    assert "10 % of normal" not in page
    assert "0.5 %" not in page
    assert "p < 0.001 of 8 normal test images" in page.replace("&lt;", "<")
    assert "not the same distribution" in page


def test_page_shows_the_worst_images_of_each_kind(report):
    shown = shown_images(report.categories[0])
    names = [[image.image_id.rsplit("/", maxsplit=1)[-1] for image in part] for part in shown.values()]
    assert names == [["07", "06", "05"], ["00", "01", "02"], ["18"]]
    assert render(report).count("<img ") == 2 * NUM_WORST + 1


def test_calibration_normals_stand_in_where_no_normal_was_tested(report):
    gate = report.categories[0]
    kept = tuple(image for image in gate.images if image.use == "calibration")
    alone = dataclasses.replace(gate, images=kept, drift=None, suspects=())
    (heading,) = shown_images(alone)
    assert [image.image_id[-2:] for image in shown_images(alone)[heading]] == ["18", "17", "16"]
    assert "not tested: no normal test images" in render(dataclasses.replace(report, categories=(alone,)))


def test_transductive_rows_say_that_nothing_is_promised(report):
    bare = dataclasses.replace(
        row(0.05), promised_rate=None, pac_upper_95=None, worst_case=None, expected_low=None, verdict="no guarantee"
    )
    gate = dataclasses.replace(report.categories[0], rows=(bare,))
    page = render(dataclasses.replace(report, guaranteed=False, rows=(bare,), categories=(gate,)))
    assert page.count("nothing is promised") == 2  # of all categories, and of the one
    assert page.count(">no guarantee<") == 4


def test_many_categories_are_folded(report):
    several = tuple(category_gate(f"part{index}") for index in range(MAX_OPEN_CATEGORIES + 1))
    assert "open>" not in render(dataclasses.replace(report, categories=several))
    assert render(report).count("open>") == 1


def test_identical_scores_can_be_drawn(report):
    same = tuple(dataclasses.replace(image, anomaly_score=0.6) for image in report.categories[0].images)
    page = render(dataclasses.replace(report, categories=(dataclasses.replace(report.categories[0], images=same),)))
    assert "nan" not in page.lower().replace("finance", "")


def test_file_comes_back_equal(report, tmp_path):
    path = tmp_path / "gate_card.json"
    write_gate_card(report, path)
    assert json.loads(path.read_text())["schema_version"] == 2
    assert read_gate_card(path) == report


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema_version": 7}, "schema version 7"), ({"extra": 1}, r"unknown fields \['extra'\]")],
)
def test_altered_files_are_refused_with_the_remedy(report, tmp_path, change, message):
    path = tmp_path / "gate_card.json"
    write_gate_card(report, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ArtifactError, match=message + ".*run task=detect again"):
        read_gate_card(path)
    path.write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_gate_card(path)


def test_table_for_the_terminal_fits_and_names_what_is_needed(report):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - the record counts
    console.print(gate_table(report))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 100
    words = [cell.strip() for line in shown.splitlines() if " nut " in line for cell in line.strip("│").split("│")]
    assert words == ["nut", "19", "5", "4.8", f"12.5 [{ENDS}]", "8", "37.5", "consistent"]
    assert "n = 99" in shown
