"""A hand-made scoreboard, manifest, report content and image records, without scoring or reading anything."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from velm_train.core.inspection import InspectedRegion, Inspection, NamedOption
from velm_train.core.language import LanguageRow
from velm_train.core.plain import read_record
from velm_train.core.records import ImageRecord, Prediction
from velm_train.core.report_facts import PageFacts
from velm_train.core.scores import (
    CalibrationScores,
    ClassificationScores,
    CollapseCheck,
    Confusion,
    DetectionScores,
    GroupScores,
    Outcomes,
    PairedDifference,
    RiskPoint,
    RowScores,
    Score,
    Scoreboard,
    ScoreboardRow,
    StageSeconds,
    SystemScores,
    TypeRecall,
)
from velm_train.reporting.content import Example, ReportContent
from velm_train.reporting.figures import Picture
from velm_train.reporting.manifest import Checkout, Machine, Manifest, StageCost


def rate(k, n, *, note=""):
    return Score(
        value=k / n,
        low=max(0.0, k / n - 0.05),
        high=min(1.0, k / n + 0.05),
        n=n,
        k=k,
        interval="clopper-pearson",
        note=note,
    )


def figure(value, *, n=20):
    return Score(value=value, low=value - 0.05, high=value + 0.05, n=n, k=None, interval="bootstrap", note="")


def group_scores(name, kind, *, recall=0.7):
    collapse = CollapseCheck(
        alarm=False, gt_entropy_fraction=1.0, pred_entropy_fraction=0.9, top_answer="cut", top_share=0.6, note=""
    )
    return GroupScores(
        name=name,
        kind=kind,
        num_images=30,
        num_defects=20,
        num_normals=10,
        num_flagged=19,
        detection=DetectionScores(image_auroc=figure(0.9), miss_rate=rate(2, 20), false_alarm_rate=rate(1, 10)),
        classification=ClassificationScores(
            given_detected_balanced_recall=figure(0.8), given_detected_macro_f1=Score.undefined("nothing <passed>")
        ),
        system=SystemScores(
            end_to_end_balanced_recall=figure(recall), normal_recall=rate(9, 10), velm_accuracy=figure(0.75)
        ),
        outcomes=Outcomes(
            defects_named_right=rate(14, 20),
            defects_named_wrong=rate(3, 20),
            defects_unnamed=rate(1, 20),
            defects_passed_as_good=rate(2, 20),
            normals_stopped=rate(1, 10),
        ),
        calibration=CalibrationScores(
            expected_calibration_error=figure(0.1),
            aurc=figure(0.2),
            unparsed_fraction=rate(0, 19),
            none_of_these_fraction=rate(1, 19),
            risk_coverage=(
                RiskPoint(coverage=0.5, risk=0.1, confidence=0.9),
                RiskPoint(coverage=1.0, risk=0.3, confidence=0.4),
            ),
        ),
        collapse=collapse,
        type_recalls=(
            TypeRecall(category="nut", defect_type="cut", recall=rate(14, 20), num_missed_by_gate=2),
            TypeRecall(
                category="nut", defect_type="rust", recall=Score.undefined("no test image"), num_missed_by_gate=0
            ),
        ),
    )


def row_scores(*, recall=0.7):
    return RowScores(
        overall=group_scores("overall", "overall", recall=recall),
        groups=(group_scores("seen", "group", recall=recall), group_scores("unseen", "group", recall=recall)),
        categories=(group_scores("nut", "category", recall=recall),),
        confusions=(
            Confusion(
                category="nut",
                group="seen",
                gt_labels=("cut", "rust", "good"),
                pred_labels=("cut", "rust", "good", "none of these", "unparsed"),
                counts=((14, 3, 2, 1, 0), (0, 0, 0, 0, 0), (1, 0, 9, 0, 0)),
            ),
        ),
        seconds=(StageSeconds(stage="all stages", mean=0.5, median=0.4, total=15.0, n=30),),
        gate_policies=("detector",),
    )


@pytest.fixture
def scoreboard() -> Scoreboard:
    versus = PairedDifference(
        difference=figure(-0.3), num_only_first_right=9, num_only_other_right=2, mcnemar_p_value=0.0654
    )
    first = ScoreboardRow(name="this run", scores=row_scores(), trivial=False, subset_note="", versus_first=None)
    blind = replace(
        first, name="image-blind", scores=row_scores(recall=0.4), subset_note="every second image", versus_first=versus
    )
    trivial = replace(first, name="majority type", scores=row_scores(recall=0.3), trivial=True, versus_first=versus)
    return Scoreboard(
        rows=(first, blind, trivial), label_sets={"nut": ("cut", "rust")}, num_images=30, num_bootstrap=100, seed=0
    )


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        python="3.11.0",
        packages={"numpy": "2.0.0", "absent": "not installed"},
        machine=Machine(platform="Linux x86_64", cpu="a cpu", num_cores=2, memory_bytes=8_000_000_000, accelerators=()),
        checkout=Checkout(commit="c" * 40, dirty=True),
        seeds={"root": 0},
        hashes={"model": "f" * 64},
        started_utc="2026-01-01T00:00:00+00:00",
        ended_utc="2026-01-01T00:05:00+00:00",
        stages=(
            StageCost(
                stage="training",
                wall_seconds=200.0,
                peak_memory_bytes=2_000_000_000,
                accelerator_peak_bytes=None,
                reused=True,
            ),
        ),
    )


FACTS = json.loads((Path(__file__).parent / "page_facts.json").read_text())
"""One category's gate, errors and second look, and two rows of the language check, as a results file holds them."""


@pytest.fixture
def page() -> PageFacts:
    return read_record(PageFacts, FACTS["page"])


@pytest.fixture
def language() -> tuple[LanguageRow, ...]:
    return tuple(read_record(LanguageRow, row) for row in FACTS["language"])


def named_option(answer, probability, defect_type):
    return NamedOption(
        answer=answer, defect_type=defect_type, log_likelihood=-1.0, probability=probability, in_set=None
    )


@pytest.fixture
def content(scoreboard, manifest, page, language) -> ReportContent:
    picture = Picture(rgb=np.full((24, 40, 3), 127, dtype=np.uint8), alt="a grey part", caption="outline")
    return ReportContent(
        page=page,
        scoreboard=scoreboard,
        examples=(
            Example(
                outcome="wrong name",
                image_id="d/nut/cut/0.png",
                category="nut",
                group="seen",
                gt_name="a clean cut",
                pred_name="rust",
                anomaly_score=3.0,
                image_threshold=2.5,
                options=(named_option("rust", 0.8, "rust"), named_option("a clean cut", 0.2, "cut")),
                abstained=False,
                pictures=(picture,),
                note="",
            ),
        ),
        config_yaml="seed: 0\nname: <b>\n",
        manifest=manifest,
        language=language,
    )


@pytest.fixture
def predictions() -> list[Prediction]:
    return [
        Prediction(
            image_id=f"{i}",
            category="nut",
            group="seen",
            gt_defect_type="cut",
            anomaly_score=0.1 + i,
            p_value=0.5,
            pred_label=True,
            gate_policy="detector",
            option_log_likelihoods={"cut": -0.1, "no defect": -2.5},
            pred_defect_type="cut" if i else None,
            response="ein \u201eSchnitt\u201c\nmit Zeilenwechsel",
            region_boxes_xyxy=((0, 1, 7, 5), (2, 2, 3, 9)),
            seconds={"detect": 0.25},
            hashes={"model": "f" * 64},
        )
        for i in range(3)
    ]


def image_record(name, *, category="nut", kind="good", size_hw=(60, 100), masks=0, group=None):
    image_id = f"set/{category}/{kind}/{name}.png"
    return ImageRecord(
        image_id=image_id,
        dataset="set",
        category=category,
        split="train" if kind == "good" else "test",
        defect_type=kind,
        image_path=Path(f"{name}.png"),
        gt_mask_paths=tuple(Path(f"{name}_{i}.png") for i in range(masks)),
        sha256="0" * 64,
        group_id=image_id if group is None else group,
        size_hw=size_hw,
    )


@pytest.fixture
def make_record():
    return image_record


@pytest.fixture
def records():
    return [
        image_record("0"),
        image_record("1"),
        image_record("2", size_hw=(80, 30)),
        image_record("3", kind="cut", masks=2, group="part 7"),
        image_record("4", kind="cut", group="part 7"),
        image_record("5", kind="cut+rust", masks=1, group="part 7"),
        image_record("6", category="<b>&", kind="bent", size_hw=(60, 100)),
    ]


@pytest.fixture
def roles(records):
    given = ["train", "reference", "left out", "train", "test", "test", "test"]
    return {one.image_id: role for one, role in zip(records, given, strict=True)}


@pytest.fixture
def cut_row() -> Inspection:
    """A flagged picture of 60 x 90 px with one place, named a cut."""
    return Inspection(
        path="cut.png",
        sha256="a" * 64,
        category="cable",
        verdict="defect",
        error="",
        size_hw=(60, 90),
        anomaly_score=2.5,
        p_value=0.05,
        image_threshold=1.5,
        flagged=True,
        gate_policy="detector",
        pred_defect_type="cut",
        options=(NamedOption(answer="cut", defect_type="cut", log_likelihood=0.0, probability=0.875, in_set=True),),
        regions=(
            InspectedRegion(
                box_xyxy=(10, 20, 40, 50),
                crop_xyxy=(0, 10, 50, 60),
                contour=((10, 20), (39, 20), (39, 49), (10, 49)),
                area_px=900,
                peak_score=3.0,
                source="detector",
            ),
        ),
        role_in_run="train",
        seconds={"read": 0.01, "detect": 0.02, "decide": 0.0, "encode": 0.25, "answer": 0.5},
    )
