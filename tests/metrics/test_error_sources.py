"""Every image is counted once, at the step that decided about it."""

from velm_train.core.report_facts import ErrorSources
from velm_train.metrics.error_sources import error_sources, outcomes_of
from velm_train.metrics.table import make_table

NONE = {"none of these": -0.1, "cut": -3.0}
LABELS = {"nut": ("cut", "rust", "odd"), "tile": ("oil",)}


def table_of(row):
    rows = [
        row("00", "cut", "cut"),
        row("01", "cut", "cut"),
        row("02", "odd", None, options=NONE),  # nobody was taught it: none of these is right
        row("03", "cut", "good"),
        row("04", "rust", "good", flagged=True),
        row("05", "rust", "cut"),
        row("06", "rust", None, options=NONE),
        row("07", "cut", None),
        row("08", "odd", "cut"),
        row("10", "good", "good"),
        row("11", "good", "good", flagged=True),
        row("12", "good", "rust"),
        row("13", "good", None, options=NONE),
        row("14", "good", None),
        row("20", "oil", "oil", category="tile"),
    ]
    return make_table(rows, label_sets=LABELS, unknown_types={"nut": ("odd",)})


def test_images_are_counted_at_the_step_that_decided(row):
    nut, tile = error_sources(table_of(row))
    assert nut == ErrorSources(
        category="nut",
        right=3,
        gate_miss=1,
        no_defect_answered=1,
        wrong_type=2,
        none_of_these=1,
        unparsed=1,
        passed=1,
        cleared=1,
        false_alarm_named=1,
        false_alarm_unnamed=2,
    )
    assert (nut.num_defects, nut.num_normals) == (9, 5)
    assert (tile.category, tile.right, tile.num_defects, tile.num_normals) == ("tile", 1, 1, 0)


def test_every_image_has_one_outcome(row):
    assert outcomes_of(table_of(row)) == {
        "00": "named right",
        "01": "named right",
        "02": "named right",
        "03": "missed",
        "04": "missed",
        "05": "wrong name",
        "06": "no name",
        "07": "no name",
        "08": "wrong name",
        "10": "good passed",
        "11": "good passed",
        "12": "false alarm",
        "13": "false alarm",
        "14": "false alarm",
        "20": "named right",
    }


def test_counts_add_up_to_all_images_whatever_the_answers(random_rows):
    rows = random_rows(3)
    errors = error_sources(make_table(rows, label_sets={"nut": ("bent", "cut", "rust"), "tile": ("oil", "crack")}))
    assert sum(one.num_defects for one in errors) == sum(row.gt_defect_type != "good" for row in rows)
    assert sum(one.num_normals for one in errors) == sum(row.gt_defect_type == "good" for row in rows)
