"""Pictures in memory go in; the gate's decision with regions and questions, then the model's answers, come out.

The very steps of a run, without its artefacts: what a question shows and how it is asked depend on the picture's bytes.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from velm_train.collation.collate import ViewFeatures
from velm_train.collation.render import EncodedSample, PromptRenderer
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.batch import Batch
from velm_train.core.errors import DataError
from velm_train.core.progress import SilentProgress
from velm_train.core.records import (
    BoxXYXY,
    Detection,
    GatePolicy,
    ImageRecord,
    InstructionSample,
    Prediction,
    View,
    ViewKind,
)
from velm_train.core.taxonomy import Taxonomy
from velm_train.detectors.protocol import Detector, RawDetection
from velm_train.detectors.store import as_stored
from velm_train.evaluation.gated import GatedImage as AskedImage
from velm_train.evaluation.gated import make_question
from velm_train.evaluation.new_pictures import ReadPicture
from velm_train.evaluation.runner import OptionScorer, run_evaluation
from velm_train.gating.gate import CalibratedGate
from velm_train.models.protocol import VisionLanguageModel
from velm_train.pipeline.features import FeatureReader, build_features
from velm_train.pipeline.live_features import ViewEncoder
from velm_train.pipeline.looking import GatedImage, RegionSettings, look
from velm_train.pipeline.samples import CropSettings, findings_of, questions_by_image, views_in
from velm_train.pipeline.views import MapSource

NEW_GROUP = "new"


@dataclass(frozen=True, kw_only=True, slots=True)
class LookingSettings:
    """How a run cuts regions, and what it asks about them; all as in the run.

    Attributes:
        policy: "detector", or "off" to ask about every picture.
        views: of a question, in the order shown.
        num_option_orders: orders of the closed list that are averaged.
        with_descriptions: whether each type's description is in the question.
        contour_width_px: line width of drawn contours.
        seed: of the run; it orders the options.
    """

    policy: GatePolicy
    regions: RegionSettings
    crops: CropSettings
    views: tuple[ViewKind, ...]
    num_option_orders: int
    with_descriptions: bool
    contour_width_px: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedModel:
    """The tuned model with what turns questions into its batches.

    Attributes:
        model: with its adapter.
        collate: features of views -> encoded questions -> batch.
        encode_batch_size: views per pass through the frozen towers.
        answer_batch_size: questions per forward pass.
        device: where the model answers.
    """

    model: VisionLanguageModel
    renderer: PromptRenderer
    collate: Callable[[Callable[[View], ViewFeatures]], Callable[[Sequence[EncodedSample]], Batch]]
    encode_batch_size: int
    answer_batch_size: int
    device: torch.device


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPicture:
    """One picture after the gate.

    Attributes:
        questions: region -> option orders; empty if not flagged.
        crops: what each region's crop shows, original pixels.
        seconds: of every stage so far.
    """

    read: ReadPicture
    image: GatedImage
    questions: tuple[tuple[InstructionSample, ...], ...]
    crops: tuple[BoxXYXY, ...]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judge:
    """What decides about the pictures of one category, and what is asked about the flagged ones.

    Attributes:
        detector: fitted; the one that the gate was calibrated with.
        gate: calibrated.
        taxonomy: closed lists.
        references: category -> normal pictures for questions that show one.
        looking: regions and questions.
    """

    detector: Detector
    gate: CalibratedGate
    taxonomy: Taxonomy
    references: Mapping[str, Sequence[ImageRecord]]
    looking: LookingSettings

    def judge(self, pictures: Sequence[ReadPicture]) -> Iterator[JudgedPicture | DataError]:
        """Detects the pictures together, then decides about each.

        Args:
            pictures: of the gate's category, one or more.

        Yields:
            In order, the picture after the gate, or why nothing can be said about it.

        Raises:
            GateError: if detector and gate do not belong together.
        """
        started = time.perf_counter()
        image_ids = [one.record.image_id for one in pictures]
        found = self.detector.detect([one.rgb for one in pictures], image_ids=image_ids)
        detect_seconds = (time.perf_counter() - started) / len(pictures)
        for picture, raw in zip(pictures, found, strict=True):
            try:
                yield self._decide(picture, raw, detect_seconds=detect_seconds)
            except DataError as error:
                yield error

    def _decide(self, picture: ReadPicture, raw: RawDetection, *, detect_seconds: float) -> JudgedPicture:
        started = time.perf_counter()
        looking = self.looking
        image = look(
            picture.record,
            detection_of(picture.record, raw, detector=self.detector),
            self.gate,
            role="test",
            group=NEW_GROUP,
            policy=looking.policy,
            settings=looking.regions,
        )
        findings = findings_of(
            image,
            references=self.references,
            crops=looking.crops,
            gate_policy=looking.policy,
            seed=looking.seed,
            labelled=False,
        )
        asked = questions_by_image(
            findings,
            taxonomy=self.taxonomy,
            views=looking.views,
            num_option_orders=looking.num_option_orders,
            with_descriptions=looking.with_descriptions,
            seed=looking.seed,
        )
        regions = asked[picture.record.image_id] if asked else []
        seconds = {"read": picture.seconds, "detect": detect_seconds, "decide": time.perf_counter() - started}
        return JudgedPicture(
            read=picture,
            image=image,
            questions=tuple(tuple(orders) for orders in regions),
            crops=tuple(finding.crop_box_xyxy for finding in findings if finding.crop_box_xyxy is not None),
            seconds=seconds,
        )


def detection_of(record: ImageRecord, raw: RawDetection, *, detector: Detector) -> Detection:
    """Ties a detector's word to the picture's record, with its map rounded as a run's are.

    Raises:
        DataError: if the score or the map is not finite.
    """
    return Detection(
        image_id=record.image_id,
        detector_hash=detector.identity,
        anomaly_score=raw.anomaly_score,
        anomaly_map=as_stored(raw.anomaly_map),
        image_size_hw=record.size_hw,
        out_of_sample=True,
    )


def answer(
    pictures: Sequence[JudgedPicture],
    *,
    sources: Mapping[str, MapSource],
    asked: AskedModel,
    looking: LookingSettings,
    on_rows: Callable[[Sequence[Prediction]], None],
) -> None:
    """Asks the model about the flagged pictures of one batch; the others get their rows at once.

    Args:
        pictures: after the gate; one or more.
        sources: image_id -> map, of these pictures and of the references that questions show.
        asked: the model.
        looking: as for `judge`.
        on_rows: gets the rows after every forward pass.
    """
    with tempfile.TemporaryDirectory(prefix="velm_train_") as scratch:
        features = _encode(pictures, sources=sources, asked=asked, looking=looking, scratch=Path(scratch))
        images = [_asked_image(one, features, renderer=asked.renderer) for one in pictures]
        scorer = OptionScorer(
            model=asked.model,
            collate=asked.collate(features),
            batch_size=asked.answer_batch_size,
            device=asked.device,
        )
        run_evaluation(images, scorer=scorer, hashes={}, on_rows=on_rows, done=set(), progress=SilentProgress())


def _encode(
    pictures: Sequence[JudgedPicture],
    *,
    sources: Mapping[str, MapSource],
    asked: AskedModel,
    looking: LookingSettings,
    scratch: Path,
) -> FeatureReader:
    """Runs the frozen towers over every view of the questions, as a run does, in a folder that does not last."""
    views: dict[str, list[View]] = {}
    for one in pictures:  # by category, as a run does, for equal batches
        asked_about = [sample for orders in one.questions for sample in orders]
        views.setdefault(one.read.record.category, []).extend(views_in(asked_about))
    return build_features(
        store=ArtifactStore(scratch, progress=SilentProgress()),
        views=views,
        encoder=ViewEncoder(
            tower=asked.model,
            map_sources=sources,
            contour_width_px=looking.contour_width_px,
            batch_size=asked.encode_batch_size,
        ),
        cache="auto",
        progress=SilentProgress(),
    )


def _asked_image(one: JudgedPicture, features: FeatureReader, *, renderer: PromptRenderer) -> AskedImage:
    questions = [
        make_question(sample, renderer=renderer, region_index=number)
        for number, orders in enumerate(one.questions)
        for sample in orders
    ]
    views = [view for orders in one.questions for view in orders[0].views]
    encode = {"encode": sum(features.seconds(view) for view in views)} if questions else {}
    return AskedImage(
        image_id=one.read.record.image_id,
        category=one.read.record.category,
        group=NEW_GROUP,
        gt_defect_type=None,
        anomaly_score=one.image.detection.anomaly_score,
        decision=one.image.decision,
        regions=one.image.regions,
        questions=tuple(questions),
        seconds={**one.seconds, **encode},
    )
