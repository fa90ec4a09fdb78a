"""A predictions.jsonl of this project goes in; `RawPredictions` come out, every number checked."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from velm_train.core.errors import DataError
from velm_train.core.records import NONE_OF_THESE_OPTION, GatePolicy, Prediction
from velm_train.reporting.imports.raw import RawPredictions, RawRow, read_text, require_once
from velm_train.reporting.predictions import read_predictions


def read_own_predictions(path: Path) -> RawPredictions:
    """Reads predictions.jsonl.

    Raises:
        ArtifactError: if it is of another schema version or damaged.
        DataError: if it is empty, or naming the line that is not as it has to be.
    """
    read_text(path)
    predictions = read_predictions(path)
    if not predictions:
        raise DataError(f"{path} holds a header but no prediction; at least one is needed")
    rows = []
    for number, row in enumerate(predictions, start=2):  # line 1 is the header
        where = f"line {number}"
        for problem in _problems(row):
            raise DataError(f"{path}, {where}: {row.image_id}: {problem}")
        rows.append(_raw(row, where=where))
    require_once(path, ((row.image_id, row.where) for row in rows))
    return RawPredictions(path=path, rows=tuple(rows), notes=())


def _problems(row: Prediction) -> Iterator[str]:
    """Yields what a row of the right fields can still have wrong."""
    for name in ("image_id", "category", "group"):
        if not isinstance(getattr(row, name), str) or not getattr(row, name):
            yield f"{name} is {getattr(row, name)!r}; text is needed"
    numbers = {"anomaly_score": row.anomaly_score, "p_value": row.p_value}
    numbers |= {f"the log-likelihood of {name!r}": value for name, value in row.option_log_likelihoods.items()}
    numbers |= {f"seconds of {name}": value for name, value in row.seconds.items()}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            yield f"{name} is {value!r}; a finite number is needed"
    if not isinstance(row.pred_label, bool):
        yield f"pred_label is {row.pred_label!r}; true or false is needed"
    if row.gate_policy not in get_args(GatePolicy):
        yield f"gate_policy is {row.gate_policy!r}; allowed: {', '.join(get_args(GatePolicy))}"


def _raw(row: Prediction, *, where: str) -> RawRow:
    return RawRow(
        where=where,
        image_id=row.image_id,
        category=row.category,
        gt_defect_type=row.gt_defect_type,
        answer=_answer(row),
        said=_answer(row),
        flagged=row.pred_label,
        anomaly_score=row.anomaly_score,
        p_value=row.p_value,
        group=row.group,
        gate_policy=row.gate_policy,
        source=row,
    )


def _answer(row: Prediction) -> str:
    """Returns the type named, "none of these" if that won, else what was said."""
    if row.pred_defect_type is not None:
        return row.pred_defect_type
    scores = row.option_log_likelihoods
    won = max(scores, key=lambda answer: scores[answer]) if scores else None
    return NONE_OF_THESE_OPTION if won == NONE_OF_THESE_OPTION else row.response
