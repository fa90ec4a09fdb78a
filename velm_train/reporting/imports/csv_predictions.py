"""Predictions in a CSV file go in, one row an image; `RawPredictions` come out.

| column | what |
|---|---|
| image_id | unique |
| answer | the type's folder or display name; `good` or `no defect`; `none of these`; anything else is unparsed |
| category | may be left out where the truth is in another file |
| defect_type | the true type, `good` for a normal image; may be left out as category |
| flagged | true or false: did the gate let it through? Left out: every image whose answer is not good |
| anomaly_score | finite, higher is more anomalous; left out: no AUROC |
| p_value | above 0, at most 1; left out: unknown |
| group | such as seen or unseen; left out: one group |
| gate_policy | detector, oracle or off; left out: detector |
"""

from pathlib import Path
from typing import cast, get_args

from velm_train.core.records import GatePolicy
from velm_train.reporting.imports.columns import Line, read_table
from velm_train.reporting.imports.raw import RawPredictions, RawRow, require_once

REQUIRED_COLUMNS = ("image_id", "answer")
OPTIONAL_COLUMNS = ("category", "defect_type", "flagged", "anomaly_score", "p_value", "group", "gate_policy")


def read_csv_predictions(path: Path) -> RawPredictions:
    """Reads predictions from a CSV file.

    Raises:
        DataError: naming the line that is not as it has to be, or that holds an image again.
    """
    table = read_table(path, required=REQUIRED_COLUMNS, optional=OPTIONAL_COLUMNS)
    rows = tuple(_row(line) for line in table.lines)
    require_once(path, ((row.image_id, row.where) for row in rows))
    notes = []
    if table.unread_columns:
        notes.append(f"Columns that are not read: {', '.join(table.unread_columns)}.")
    return RawPredictions(path=path, rows=rows, notes=tuple(notes))


def _row(line: Line) -> RawRow:
    policy = line.text_if_any("gate_policy")
    if policy is not None and policy not in get_args(GatePolicy):
        raise line.problem(f"gate_policy is {policy!r}; allowed: {', '.join(get_args(GatePolicy))}")
    p_value = line.number_if_any("p_value")
    if p_value is not None and not 0 < p_value <= 1:
        raise line.problem(f"p_value is {p_value}; allowed: above 0, at most 1")
    return RawRow(
        where=line.where,
        image_id=line.text("image_id"),
        category=line.text_if_any("category"),
        gt_defect_type=line.text_if_any("defect_type"),
        answer=line.values["answer"],
        said=line.values["answer"],
        flagged=line.truth_if_any("flagged"),
        anomaly_score=line.number_if_any("anomaly_score"),
        p_value=p_value,
        group=line.text_if_any("group"),
        gate_policy="detector" if policy is None else cast("GatePolicy", policy),
        source=None,
    )
