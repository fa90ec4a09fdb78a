"""Finished predictions in; the images that the report shows, with pictures, options and what became of them, out."""

from collections.abc import Mapping, Sequence

from velm_train.cli.instruct import Material
from velm_train.cli.prepare import Looked, Prepared
from velm_train.core.answer_scores import AnswerPolicy
from velm_train.core.images import read_rgb
from velm_train.core.records import NONE_OF_THESE_OPTION, NORMAL_DEFECT_TYPE, Prediction
from velm_train.core.report_facts import Outcome, SecondLook
from velm_train.evaluation.verdicts import abstention_of, options_of
from velm_train.metrics.error_sources import outcomes_of
from velm_train.metrics.table import PredictionTable
from velm_train.pipeline.looking import GatedImage
from velm_train.reporting.content import Example
from velm_train.reporting.figures import Picture, example_pictures, look_picture

IMAGES_PER_OUTCOME = 12
"""The gallery is a sample, so that the page stays small: at most this many images of each of six outcomes."""

PICTURE_SIDE_PX = 280

SHOWN_OUTCOMES: tuple[Outcome, ...] = (
    "wrong name",
    "missed",
    "false alarm",
    "no name",
    "named right",
    "good passed",
)
"""In the order of the gallery: what went wrong first."""


def choose_shown(table: PredictionTable) -> dict[str, Outcome]:
    """Returns image_id -> outcome of the images to show: evenly spread over ids, and so over categories."""
    by_outcome: dict[Outcome, list[str]] = {outcome: [] for outcome in SHOWN_OUTCOMES}
    for image_id, outcome in outcomes_of(table).items():
        by_outcome[outcome].append(image_id)
    return {
        image_id: outcome for outcome in SHOWN_OUTCOMES for image_id in _spread(by_outcome[outcome], IMAGES_PER_OUTCOME)
    }


def make_examples(
    prepared: Prepared,
    looked: Looked,
    material: Material,
    *,
    rows: Mapping[str, Prediction],
    shown: Mapping[str, Outcome],
    looks: Sequence[SecondLook],
    policy: AnswerPolicy | None,
) -> tuple[Example, ...]:
    """Returns the gallery.

    Args:
        prepared: with the types' names.
        looked: test images after the gate.
        material: what was asked about them.
        rows: image_id -> prediction.
        shown: from `choose_shown`.
        looks: where the adapter looked, of some of the images.
        policy: the run's calibration of answers; None leaves probabilities as the model gives them.
    """
    images = {image.record.image_id: image for image in looked.test}
    looked_at = {look.image_id: look for look in looks}
    return tuple(
        _example(
            rows[image_id],
            outcome,
            prepared=prepared,
            policy=policy,
            image_threshold=looked.gates[rows[image_id].category].image_threshold,
            look=looked_at.get(image_id),
            pictures=_pictures(
                images[image_id],
                pixel_threshold=looked.gates[rows[image_id].category].pixel_threshold,
                material=material,
                look=looked_at.get(image_id),
            ),
        )
        for image_id, outcome in shown.items()
    )


def _spread(image_ids: Sequence[str], number: int) -> list[str]:
    """Returns at most `number` of them at even distances."""
    kept = min(number, len(image_ids))
    return [image_ids[i * len(image_ids) // kept] for i in range(kept)]


def _example(
    row: Prediction,
    outcome: Outcome,
    *,
    prepared: Prepared,
    policy: AnswerPolicy | None,
    image_threshold: float,
    look: SecondLook | None,
    pictures: tuple[Picture, ...],
) -> Example:
    types = prepared.taxonomy.categories[row.category].defect_types
    options = options_of(row.option_log_likelihoods, category=row.category, taxonomy=prepared.taxonomy, answers=policy)

    def readable(defect_type: str) -> str:
        return "good" if defect_type == NORMAL_DEFECT_TYPE else types[defect_type].display_name

    said = row.response or "nothing that can be read"
    if not row.pred_label:
        pred_name = "good: let pass by the gate"
    elif row.pred_defect_type is None:
        pred_name = NONE_OF_THESE_OPTION if options else said
    else:
        pred_name = "no defect" if row.pred_defect_type == NORMAL_DEFECT_TYPE else readable(row.pred_defect_type)
    assert row.gt_defect_type is not None, "test images are labelled"
    return Example(
        outcome=outcome,
        image_id=row.image_id,
        category=row.category,
        group=row.group,
        gt_name=readable(row.gt_defect_type),
        pred_name=pred_name,
        anomaly_score=row.anomaly_score,
        image_threshold=image_threshold,
        options=options,
        abstained=bool(options) and options[0].probability < abstention_of(policy),
        pictures=pictures,
        note=f"p = {row.p_value:.3f}{_look_words(look)}",
    )


def _look_words(look: SecondLook | None) -> str:
    """Returns how much of the second-look tokens comes from the cells outlined, in words."""
    if look is None:
        return ""
    shares = [cell.share for cell in look.cells]
    low, high = f"{100 * min(shares):.0f}", f"{100 * max(shares):.0f}"
    drawn = f"{low} %" if low == high else f"{low} to {high} %"
    number = len({cell.box_xyxy for cell in look.cells})
    return f"; {len(shares)} second-look tokens draw {drawn} from {number} {'cell' if number == 1 else 'cells'}"


def _pictures(
    image: GatedImage, *, pixel_threshold: float, material: Material, look: SecondLook | None
) -> tuple[Picture, ...]:
    crop_box = None
    if image.decision.pred_label:
        views = material.questions[image.record.image_id][0][0].views
        crop_box = next((view.box_xyxy for view in views if view.kind == "crop"), None)
    rgb = read_rgb(image.record.image_path)
    pictures = example_pictures(
        rgb,
        anomaly_map=image.detection.anomaly_map,
        low=pixel_threshold,
        high=2 * pixel_threshold,
        contours=[region.contour for region in image.regions if len(region.contour)],
        crop_box_xyxy=crop_box,
        max_side_px=PICTURE_SIDE_PX,
    )
    if look is None:
        return pictures
    cells = [cell.box_xyxy for cell in look.cells]
    seen = look_picture(rgb, view_box_xyxy=look.view_box_xyxy, cells_xyxy=cells, max_side_px=PICTURE_SIDE_PX)
    return (*pictures, seen)
