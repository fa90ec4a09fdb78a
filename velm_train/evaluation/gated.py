"""What evaluation works on: one image with the gate's decision, its regions, and the questions about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from velm_train.collation.render import EncodedSample, PromptRenderer
from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import NORMAL_DEFECT_TYPE, GateDecision, InstructionSample, Prediction, Region
from velm_train.evaluation.scoring import RegionScores


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One option order about one region, ready for the model.

    Attributes:
        prompt: encoded up to where the answer begins; its sample holds the options in their order.
        option_ids: token ids of each option with the stop token.
        region_index: which of the image's regions it asks about.
        key: equal for questions with equal prompt, pictures and options, which are computed once.
    """

    prompt: EncodedSample
    option_ids: tuple[tuple[int, ...], ...]
    region_index: int
    key: str

    @property
    def num_tokens(self) -> int:
        """Length of the prompt."""
        return len(self.prompt.input_ids)


def make_question(sample: InstructionSample, *, renderer: PromptRenderer, region_index: int) -> Question:
    """Encodes one inference sample.

    Raises:
        DataError: if its text holds one of the tokenizer's control tokens.
    """
    prompt = renderer.encode_prompt(sample)
    option_ids = tuple(tuple(ids) for ids in renderer.encode_options(sample))
    views = [[view.kind, view.image_id, view.sha256, view.box_xyxy, view.contour.tolist()] for view in sample.views]
    key = sha256_json({"input_ids": prompt.input_ids, "options": option_ids, "views": views})
    return Question(prompt=prompt, option_ids=option_ids, region_index=region_index, key=key)


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedImage:
    """One image as it reaches the language model, or does not.

    Attributes:
        group: which part of the scoreboard the row counts in.
        gt_defect_type: copied into the row and read nowhere else; None on new images.
        anomaly_score: raw detector units.
        questions: empty if the gate lets the image pass; else every option order of every region asked about.
        seconds: stage name -> seconds spent on the image so far.
    """

    image_id: str
    category: str
    group: str
    gt_defect_type: str | None
    anomaly_score: float
    decision: GateDecision
    regions: tuple[Region, ...]
    questions: tuple[Question, ...]
    seconds: dict[str, float]

    def __post_init__(self) -> None:
        """Checks that exactly the flagged images have questions, and that these name existing regions."""
        if self.decision.image_id != self.image_id:
            raise DataError(f"{self.image_id}: got the gate decision of {self.decision.image_id}")
        if self.decision.pred_label != bool(self.questions):
            state = "flagged but without" if self.decision.pred_label else "let pass by the gate but with"
            raise DataError(f"{self.image_id}: {state} questions; only flagged images are asked about, and all of them")
        if any(question.region_index >= len(self.regions) for question in self.questions):
            raise DataError(f"{self.image_id}: a question names a region beyond the {len(self.regions)} there are")


def stopped_row(image: GatedImage, *, hashes: Mapping[str, str]) -> Prediction:
    """Returns the row of an image that the gate let pass as normal."""
    assert not image.decision.pred_label
    return _row(image, log_likelihoods={}, pred_defect_type=NORMAL_DEFECT_TYPE, seconds={}, hashes=hashes)


def named_row(
    image: GatedImage, region: RegionScores, *, seconds: Mapping[str, float], hashes: Mapping[str, str]
) -> Prediction:
    """Returns the row of a flagged image, named after its deciding region.

    Args:
        image: flagged.
        region: from `scoring.region_naming_the_image`.
        seconds: of the stages that made the answer.
        hashes: what made the row.
    """
    return _row(
        image,
        log_likelihoods=region.log_likelihoods(),
        pred_defect_type=region.best.defect_type,
        seconds=seconds,
        hashes=hashes,
    )


def spoken_row(
    image: GatedImage,
    *,
    response: str,
    pred_defect_type: str | None,
    seconds: Mapping[str, float],
    hashes: Mapping[str, str],
) -> Prediction:
    """Returns the row of a flagged image that the model wrote about; without log-likelihoods.

    Args:
        image: flagged.
        response: an option as it stands on the list, or what could not be read.
        pred_defect_type: the type of the option; None for "none of these" and for what could not be read.
        seconds: of the stages that made the answer.
        hashes: what made the row.
    """
    row = _row(image, log_likelihoods={}, pred_defect_type=pred_defect_type, seconds=seconds, hashes=hashes)
    return replace(row, response=response)


def _row(
    image: GatedImage,
    *,
    log_likelihoods: dict[str, float],
    pred_defect_type: str | None,
    seconds: Mapping[str, float],
    hashes: Mapping[str, str],
) -> Prediction:
    return Prediction(
        image_id=image.image_id,
        category=image.category,
        group=image.group,
        gt_defect_type=image.gt_defect_type,
        anomaly_score=image.anomaly_score,
        p_value=image.decision.p_value,
        pred_label=image.decision.pred_label,
        gate_policy=image.decision.policy,
        option_log_likelihoods=log_likelihoods,
        pred_defect_type=pred_defect_type,
        response="",
        region_boxes_xyxy=tuple(region.box_xyxy for region in image.regions),
        seconds={**image.seconds, **seconds},
        hashes=dict(hashes),
    )


def without_pictures(images: Sequence[GatedImage]) -> list[GatedImage]:
    """Returns the images with the questions an image-blind model is asked: one region's, the same for a category.

    A model that sees the same blank picture everywhere can only answer from the words. So every image of a category
    gets the questions about the first region of the category's first image, which are computed once.
    """
    shared: dict[str, tuple[Question, ...]] = {}
    for image in sorted(images, key=lambda image: image.image_id):
        if image.questions and image.category not in shared:
            first = image.questions[0].region_index
            shared[image.category] = tuple(
                replace(
                    question,
                    region_index=0,
                    key=sha256_json(
                        {"input_ids": question.prompt.input_ids, "options": question.option_ids, "views": "blank"}
                    ),
                )
                for question in image.questions
                if question.region_index == first
            )
    return [replace(image, questions=shared[image.category]) if image.questions else image for image in images]
