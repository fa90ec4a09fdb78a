"""Scores, gates and predictions in; plain tables for a tracking service, which has no word for an interval, out."""

from collections.abc import Iterator, Sequence

from velm_train.core.records import Prediction
from velm_train.core.report_facts import GateFacts
from velm_train.core.scores import Confusion, RowScores, Score, Scoreboard
from velm_train.reporting.compare_figures import figures_of
from velm_train.reporting.compare_tables import PlainTable


def scoreboard_rows(scoreboard: Scoreboard) -> PlainTable:
    """Returns every row of the scoreboard, each figure with the ends of its interval."""
    rows = [(row.name, row.trivial, row.subset_note, figures_of(row.scores)) for row in scoreboard.rows]
    names = list(dict.fromkeys(name for *_, figures in rows for name in figures))
    return PlainTable(
        name="scoreboard",
        columns=("system", "trivial", "rests on", *(f"{name}{end}" for name in names for end in ("", "/low", "/high"))),
        rows=tuple(
            (
                name,
                str(trivial),
                note,
                *(number for figure in names for number in _numbers(figures[figure] if figure in figures else None)),
            )
            for name, trivial, note, figures in rows
        ),
    )


def gate_rows(gates: Sequence[GateFacts]) -> PlainTable:
    """Returns what each gate promises beside what was found."""
    return PlainTable(
        name="gates",
        columns=(
            "category",
            "alpha",
            "threshold",
            "calibrated on",
            "promised rate",
            "false alarms",
            "false alarms/low",
            "false alarms/high",
            "misses",
            "misses/low",
            "misses/high",
            "AUROC",
            "guarantee",
        ),
        rows=tuple(
            (
                gate.category,
                gate.alpha,
                gate.image_threshold,
                gate.num_calibration,
                gate.row.promised_rate,
                *_numbers(gate.row.false_alarms),
                *_numbers(gate.row.misses),
                gate.image_auroc.value,
                gate.guarantee,
            )
            for gate in gates
        ),
    )


def prediction_rows(predictions: Sequence[Prediction]) -> PlainTable:
    """Returns one row an image."""
    return PlainTable(
        name="predictions",
        columns=(
            "image",
            "category",
            "group",
            "true type",
            "answer",
            "flagged",
            "score",
            "p-value",
            "likeliest",
            "log-likelihood",
        ),
        rows=tuple(
            (
                row.image_id,
                row.category,
                row.group,
                row.gt_defect_type,
                row.pred_defect_type,
                str(row.pred_label),
                row.anomaly_score,
                row.p_value,
                *_likeliest(row),
            )
            for row in predictions
        ),
    )


def confusion_counts(scores: RowScores) -> Iterator[tuple[str, list[tuple[str, str, int]]]]:
    """Yields category -> (true type, answer, images), for every cell that holds an image."""
    for table in scores.confusions:
        yield table.category, list(_cells(table))


def _cells(table: Confusion) -> Iterator[tuple[str, str, int]]:
    for truth, counts in zip(table.gt_labels, table.counts, strict=True):
        for answer, count in zip(table.pred_labels, counts, strict=True):
            yield truth, answer, count


def _numbers(score: Score | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if score is None else (score.value, score.low, score.high)


def _likeliest(row: Prediction) -> tuple[str | None, float | None]:
    options = row.option_log_likelihoods
    if not options:
        return None, None
    best = max(options, key=lambda name: options[name])
    return best, options[best]
