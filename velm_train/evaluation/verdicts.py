"""A gated picture and its row go in, the inspection that people read comes out; many of them give a summary."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

import numpy as np
from jaxtyping import Float
from scipy.special import comb, log_softmax, softmax

from velm_train.core.answer_scores import AnswerPolicy, SetPolicy
from velm_train.core.inspection import (
    GATE_STAGES,
    MODEL_STAGES,
    CategoryDrift,
    ExpectedTime,
    InspectedRegion,
    Inspection,
    InspectionSummary,
    NamedOption,
    Verdict,
)
from velm_train.core.records import (
    NO_DEFECT_OPTION,
    NONE_OF_THESE_OPTION,
    NORMAL_DEFECT_TYPE,
    BoxXYXY,
    GatePolicy,
    Prediction,
)
from velm_train.core.taxonomy import Taxonomy
from velm_train.gating.drift import detect_drift
from velm_train.gating.gate import CalibratedGate
from velm_train.metrics.conformal_sets import conformal_scores
from velm_train.pipeline.looking import GatedImage


def options_of(
    log_likelihoods: Mapping[str, float], *, category: str, taxonomy: Taxonomy, answers: AnswerPolicy | None
) -> tuple[NamedOption, ...]:
    """Returns the closed list with probabilities, likeliest first.

    Args:
        log_likelihoods: option answer -> nats; empty if the model was not asked.
        category: whose types the answers name.
        taxonomy: closed lists.
        answers: the run's calibration; None leaves probabilities as the model gives them.
    """
    if not log_likelihoods:
        return ()
    kinds = taxonomy.categories[category].defect_types
    types: dict[str, str | None] = {kind.display_name: name for name, kind in kinds.items()}
    types |= {NO_DEFECT_OPTION: NORMAL_DEFECT_TYPE, NONE_OF_THESE_OPTION: None}
    values = np.array(list(log_likelihoods.values()), dtype=np.float64)
    shares = softmax(values if answers is None else values / answers.temperature.value)
    inside = _in_set(values, category=category, sets=None if answers is None else answers.sets)
    options = [
        NamedOption(answer=answer, defect_type=types[answer], log_likelihood=value, probability=share, in_set=member)
        for (answer, value), share, member in zip(log_likelihoods.items(), shares.tolist(), inside, strict=True)
    ]
    return tuple(sorted(options, key=lambda option: (-option.log_likelihood, option.answer)))


def _in_set(
    values: Float[np.ndarray, " options"], *, category: str, sets: SetPolicy | None
) -> Sequence[bool] | Sequence[None]:
    """Returns which options are in the set that is promised to hold the true type; the likeliest always is.

    None for a category without calibration rows, where nothing is promised.
    """
    if sets is None or category not in sets.promised:
        return [None] * len(values)
    scores = conformal_scores(log_softmax(values)[None], method=sets.method)[0]
    inside = scores <= sets.threshold_of(category)
    inside[values.argmax()] = True
    return [bool(member) for member in inside]


def abstention_of(answers: AnswerPolicy | None) -> float:
    """Returns the least probability of an answer that the run's own calibration would act on; 0 without one.

    1 if a person's look is cheaper than every answer.
    """
    if answers is None or answers.operating_point is None:
        return 0.0
    least = answers.operating_point.min_confidence
    return 1.0 if least is None else least


def verdict_of(*, flagged: bool, options: Sequence[NamedOption], abstain_below: float) -> Verdict:
    """Returns one word about a readable picture; `options` are sorted, likeliest first."""
    if not flagged:
        return "good"
    if options[0].probability < abstain_below:
        return "unsure"
    if options[0].defect_type is None:
        return "unknown type"
    return "no defect" if options[0].defect_type == NORMAL_DEFECT_TYPE else "defect"


def inspection_of(
    image: GatedImage,
    row: Prediction,
    *,
    path: str,
    crops: Sequence[BoxXYXY],
    options: tuple[NamedOption, ...],
    abstain_below: float,
    role_in_run: str,
) -> Inspection:
    """Puts together what gate and model say about one picture.

    Args:
        image: after the gate.
        row: of the evaluation, with the seconds of every stage.
        path: as it was given.
        crops: one box a region.
        options: from `options_of`.
        abstain_below: least probability of an answer that is given.
        role_in_run: see `Inspection`.
    """
    verdict = verdict_of(flagged=row.pred_label, options=options, abstain_below=abstain_below)
    regions = [
        InspectedRegion(
            box_xyxy=region.box_xyxy,
            crop_xyxy=crop,
            contour=tuple((int(x), int(y)) for x, y in region.contour),
            area_px=region.area_px,
            peak_score=region.peak_score,
            source=region.source,
        )
        for region, crop in zip(image.regions, crops, strict=True)
    ]
    return Inspection(
        path=path,
        sha256=image.record.sha256,
        category=image.record.category,
        verdict=verdict,
        error="",
        size_hw=image.record.size_hw,
        anomaly_score=row.anomaly_score,
        p_value=row.p_value,
        image_threshold=image.decision.image_threshold,
        flagged=row.pred_label,
        gate_policy=row.gate_policy,
        pred_defect_type=None if verdict == "unsure" else row.pred_defect_type,
        options=options,
        regions=tuple(regions),
        role_in_run=role_in_run,
        seconds=dict(row.seconds),
    )


def unreadable(path: str, *, category: str, error: str, gate_policy: GatePolicy, sha256: str) -> Inspection:
    """Returns the row of a picture about which nothing is known."""
    return Inspection(
        path=path,
        sha256=sha256,
        category=category,
        verdict="unreadable",
        error=error,
        size_hw=None,
        anomaly_score=None,
        p_value=None,
        image_threshold=None,
        flagged=None,
        gate_policy=gate_policy,
        pred_defect_type=None,
        options=(),
        regions=(),
        role_in_run="",
        seconds={},
    )


def expected_time(rows: Sequence[Inspection]) -> ExpectedTime | None:
    """Returns the mean time of the two parts over readable pictures; None if there is none."""
    read = [row for row in rows if row.flagged is not None]
    if not read:
        return None
    flagged = [row for row in read if row.flagged]
    model = [sum(row.seconds[stage] for stage in MODEL_STAGES) for row in flagged]
    return ExpectedTime(
        gate_seconds=float(np.mean([sum(row.seconds[stage] for stage in GATE_STAGES) for row in read])),
        model_seconds=float(np.mean(model)) if model else None,
        pass_share=len(flagged) / len(read),
        num_pictures=len(read),
        num_flagged=len(flagged),
    )


def summarise(
    rows: Sequence[Inspection],
    *,
    gates: Mapping[str, CalibratedGate],
    drift_level: float,
    measured: Sequence[Inspection],
    answers: AnswerPolicy | None,
    abstain_below: float,
) -> InspectionSummary:
    """Counts verdicts, compares scores with those that set the thresholds, and adds up the time.

    Args:
        rows: one a picture.
        gates: category -> gate.
        drift_level: rate of false drift reports where nothing has changed, in (0, 1).
        measured: those of the rows that were made now; the others are of an earlier command.
        answers: the run's calibration of answers; None if it has none.
        abstain_below: least probability of an answer that is given.
    """
    verdicts = Counter(row.verdict for row in rows)
    return InspectionSummary(
        verdicts={verdict: verdicts[verdict] for verdict in get_args(Verdict)},
        types=_counted(row.pred_defect_type for row in rows if row.verdict == "defect"),
        known_to_run=_counted(row.role_in_run for row in rows if row.role_in_run),
        num_reused=len(rows) - len(measured),
        expected_time=expected_time(measured) or expected_time(rows),
        drift=tuple(
            _drift(scores, gates[category], level=drift_level) for category, scores in _new_scores(rows).items()
        ),
        temperature=None if answers is None else answers.temperature.value,
        set_coverage=None if answers is None or answers.sets is None else answers.sets.coverage,
        abstain_below=abstain_below,
    )


def _counted(names: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(name for name in names if name is not None).items()))


def _new_scores(rows: Sequence[Inspection]) -> dict[str, list[float]]:
    """Returns category -> scores of what the run did not learn from, one for files of the same bytes."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.anomaly_score is not None and row.role_in_run in {"", "test"}:
            found.setdefault(row.category, {})[row.sha256] = row.anomaly_score
    return {category: list(found[category].values()) for category in sorted(found)}


def _drift(scores: Sequence[float], gate: CalibratedGate, *, level: float) -> CategoryDrift:
    calibration = gate.calibration_array()
    report = detect_drift(np.array(scores, dtype=np.float64), calibration, level=level)
    return CategoryDrift(
        category=gate.category,
        statistic=report.statistic,
        p_value=report.p_value,
        least_p_value=least_p_value(report.num_new, int(calibration.size)),
        num_new=report.num_new,
        num_calibration=int(calibration.size),
        level=level,
        drifted=report.drifted,
    )


def least_p_value(num_new: int, num_calibration: int) -> float:
    """Returns the p-value of two samples that do not overlap, in the exact two-sided Kolmogorov-Smirnov test.

    Of all orders in which equal distributions may come, two keep the samples apart.

    Args:
        num_new: size of one sample, 1 or more.
        num_calibration: of the other, 1 or more.
    """
    return float(2.0 / comb(num_new + num_calibration, num_new))
