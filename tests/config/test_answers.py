"""What is asked of answers: each impossible value is refused by its key, and those at the edge are taken."""

import math
import re

import pytest

from velm_train.core.errors import ConfigError

SHARES = ("set_coverage", "max_error", "sorting_confidence", "defect_share")
COSTS = ("costs.missed_defect", "costs.false_alarm", "costs.wrong_type", "costs.human_look")
IMPOSSIBLE = [
    ("set_method", "mondrian"),
    *((key, value) for key in SHARES for value in (0.0, 1.0, math.nan)),
    *((key, value) for key in COSTS for value in (-0.5, math.nan, math.inf)),
]
POSSIBLE = [("set_method", "aps"), *((key, 0.001) for key in SHARES), *((key, 0.0) for key in COSTS)]


@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE)
def test_impossible_value_is_refused_by_its_key(change, key, value):
    whole = f"evaluation.answers.{key}"
    with pytest.raises(ConfigError, match=rf"^{re.escape(whole)}=.* is not possible; allowed: \S"):
        change(whole, value)


@pytest.mark.parametrize(("key", "value"), POSSIBLE)
def test_value_at_the_edge_is_taken(change, key, value):
    change(f"evaluation.answers.{key}", value)
