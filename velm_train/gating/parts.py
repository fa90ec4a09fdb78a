"""Scores of images and the part each image shows go in; one score a part comes out.

Views of one physical part resemble each other, so images are not exchangeable where a part has several; parts are. A
part's score is that of its most anomalous view: flagging a part if any view exceeds the threshold is the decision that
the guarantee is about. A single new view scores at most as high as its part, so comparing it with parts is safe.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from velm_train.core.errors import GateError
from velm_train.gating.conformal import Scores


def part_numbers(group_ids: Sequence[str]) -> tuple[int, ...]:
    """Returns a number for each image's part, equal for images of one part, in order of first appearance."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(group_ids))}
    return tuple(numbers[group] for group in group_ids)


def part_scores(scores: Scores, parts: Sequence[int]) -> Float[np.ndarray, " parts"]:
    """Returns the highest score of each part, in order of the part numbers.

    Args:
        scores: of the images.
        parts: the number of each image's part, 0 to the number of parts - 1, as `part_numbers` gives them.

    Raises:
        GateError: if there is not one number for each score.
    """
    if len(parts) != scores.size:
        raise GateError(f"the gate got {scores.size} scores but {len(parts)} part numbers; give one for each")
    highest = np.full(max(parts, default=-1) + 1, -np.inf)
    np.maximum.at(highest, np.asarray(parts, dtype=np.int64), scores.astype(np.float64))
    return highest
