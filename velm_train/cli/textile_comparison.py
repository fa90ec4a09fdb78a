"""Predictions on the textile set in; what stands beside them in print, and where the two differ, out."""

from collections.abc import Sequence

import numpy as np

from velm_train.core.records import NORMAL_DEFECT_TYPE, Prediction
from velm_train.datasets.published import TEXTILE_RESULTS


def textile_comparison(predictions: Sequence[Prediction], k_shot: int) -> list[str]:
    """Returns this run's nominal-against-defective figures beside published few-shot CLIP, and where they differ."""
    said = np.array([row.pred_defect_type != NORMAL_DEFECT_TYPE for row in predictions])
    defective = np.array([row.gt_defect_type != NORMAL_DEFECT_TYPE for row in predictions])
    ours = (
        f"This run, nominal against defective: accuracy {np.mean(said == defective):.3f}, sensitivity "
        f"{np.mean(said[defective]):.3f}, specificity {np.mean(~said[~defective]):.3f} on {len(said)} images, from "
        f"{k_shot} labelled images of each of 2 defect types."
    )
    published = [
        f"{row.model} with {row.learning_normals} nominal examples: accuracy {row.accuracy:.3f}, sensitivity "
        f"{row.sensitivity:.3f}, specificity {row.specificity:.3f} ({row.source})."
        for row in TEXTILE_RESULTS
        if row.learning_normals == 50
    ]
    differs = (
        "The protocols do not match: the published runs answer nominal or defective, not the type; their test images "
        "are another random draw of the same set; their defect examples are as many as their nominal ones; and no "
        "false-alarm rate was fixed beforehand."
    )
    return [ours, *published, differs]
