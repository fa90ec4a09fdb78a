"""What is promised beside what was found, counted by hand."""

import numpy as np
import pytest

from velm_train.core.records import Detection
from velm_train.gating.evidence import TriedGate, alpha_row, overall_row
from velm_train.gating.gate import CalibratedGate
from velm_train.gating.guarantees import Scheme, clopper_pearson, pac_upper

SPLIT = Scheme(kind="split", num_folds=0, transductive=False)


def gate(n: int, *, category: str = "bolt", scheme: Scheme = SPLIT) -> CalibratedGate:
    """Returns a gate calibrated on the scores 1, 2, ..., n."""
    normals = [
        Detection(
            image_id=f"set/{category}/good/{index}",
            detector_hash="d" * 64,
            anomaly_score=float(index + 1),
            anomaly_map=np.full((3, 4), float(index), dtype=np.float32),
            image_size_hw=(30, 40),
            out_of_sample=True,
        )
        for index in range(n)
    ]
    return CalibratedGate.calibrate(
        normals,
        group_ids=[one.image_id for one in normals],
        category=category,
        alpha=0.5,
        pixel_alpha=0.2,
        scheme=scheme,
        allow_transductive=True,
    )


def tried(n: int, normals: list[float], defects: list[float], **changes) -> TriedGate:
    return TriedGate(gate=gate(n, **changes), normals=np.array(normals), defects=np.array(defects))


def test_row_counts_what_exceeds_the_threshold_of_its_alpha():
    row = alpha_row(tried(19, [1.0, 18.0, 18.5, 30.0], [17.0, 18.0, 19.0]), 0.1)
    assert (row.threshold, row.promised_rate, row.pac_upper_95) == (18.0, 2 / 20, pac_upper(19, 0.1))
    assert (row.false_alarms.k, row.false_alarms.n) == (2, 4)
    assert (row.false_alarms.low, row.false_alarms.high) == clopper_pearson(2, 4)
    assert (row.misses.k, row.misses.n) == (2, 3)
    assert row.worst_case == 0.1
    assert (row.expected_low, row.expected_high, row.verdict) == (0, 2, "consistent")


def test_too_many_and_too_few_false_alarms_are_told():
    many = alpha_row(tried(99, [200.0] * 5 + [0.0] * 15, []), 0.05)
    assert (many.verdict, many.misses.note) == ("more than promised", "no defective test images")
    few = alpha_row(tried(99, [0.0] * 200, []), 0.3)
    assert few.verdict == "fewer than promised"
    assert few.expected_low > 0


def test_alpha_out_of_reach_says_how_many_are_needed():
    row = alpha_row(tried(19, [30.0], [30.0]), 0.01)
    assert (row.reachable, row.num_needed, row.promised_rate, row.threshold) == (False, 99, None, None)
    assert row.false_alarms.value is None
    assert row.note == "out of reach with 19 normals"


def test_nothing_is_promised_for_a_transductive_detector():
    scheme = Scheme(kind="split", num_folds=0, transductive=True)
    row = alpha_row(tried(19, [30.0], [1.0], scheme=scheme), 0.1)
    assert (row.verdict, row.promised_rate, row.worst_case, row.pac_upper_95) == ("no guarantee", None, None, None)
    assert (row.expected_low, row.expected_high) == (None, None)
    assert (row.false_alarms.k, row.misses.k) == (1, 1)


def test_overall_row_pools_the_categories_that_reach_alpha():
    small = tried(9, [99.0] * 7, [0.0], category="nut")
    row = overall_row([tried(19, [20.0, 1.0], [30.0]), small, tried(39, [1.0] * 6, [2.0], category="pin")], 0.05)
    assert row.promised_rate == pytest.approx((2 * 1 / 20 + 6 * 2 / 40) / 8)
    assert (row.false_alarms.k, row.false_alarms.n) == (1, 8)
    assert (row.misses.k, row.misses.n) == (1, 2)
    assert row.note == "out of reach, and left out: nut"
    assert row.threshold is None
    assert not overall_row([small], 0.05).reachable


def test_expected_number_over_categories_equals_simulation():
    """Three categories with 19 calibration and 8 test normals each, at 10 %."""
    rng = np.random.default_rng(0)
    scores = rng.random((20_000, 3, 27))
    limits = np.sort(scores[..., :19], axis=-1)[..., 17]
    totals = (scores[..., 19:] > limits[..., None]).sum(axis=(1, 2))
    row = overall_row([tried(19, [0.0] * 8, [], category=name) for name in "abc"], 0.1)
    assert np.mean(totals < row.expected_low) <= 0.025 + 0.005
    assert np.mean(totals > row.expected_high) <= 0.025 + 0.005
    assert np.mean(totals >= row.expected_high) > 0.025 - 0.005


def test_untested_normals_give_no_verdict():
    row = alpha_row(tried(19, [], []), 0.1)
    assert (row.verdict, row.promised_rate, row.expected_low) == ("not tested", 0.1, None)
    assert row.false_alarms.note == "no normal test images"
    assert overall_row([tried(19, [], [])], 0.1).promised_rate == 0.1
