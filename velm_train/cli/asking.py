"""Gated images, questions and a model in; rows of predictions out, kept as artefacts and continued if interrupted."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from velm_train.cli.build_engine import make_device
from velm_train.cli.instruct import Material, collator
from velm_train.cli.prepare import Looked
from velm_train.cli.shared_rows import PREDICTIONS_NAME, shared_rows
from velm_train.cli.teach import Taught
from velm_train.cli.workshop import Workshop
from velm_train.collation.collate import ViewFeatures
from velm_train.collation.render import PromptRenderer
from velm_train.core.artifacts import StageKey
from velm_train.core.hashing import sha256_json
from velm_train.core.records import Prediction, View
from velm_train.evaluation.free_text import Responder, run_free_text
from velm_train.evaluation.gated import GatedImage as AskedImage
from velm_train.evaluation.gated import make_question
from velm_train.evaluation.runner import OptionScorer, order_of_rows, run_evaluation
from velm_train.models.build import BuiltModel
from velm_train.pipeline.looking import GatedImage
from velm_train.reporting.predictions import PredictionWriter, read_predictions

PREDICTIONS_VERSION = 1

OnRows = Callable[[Sequence[Prediction]], None]
"""Keeps finished rows."""


Ask = Callable[[Sequence[AskedImage], Mapping[str, str], OnRows, AbstractSet[str]], None]
"""Asks about images: what goes into every row, what keeps the finished ones, and whose rows are there already."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asker:
    """Asks one model about images and keeps the rows as an artefact.

    Of several processes each asks about its share of the images; the first one puts the rows together, and the others,
    which report nothing, get none.
    """

    shop: Workshop
    inputs: Mapping[str, str]

    def rows(
        self, name: str, images: Sequence[AskedImage], *, scorer: OptionScorer, model_hash: str
    ) -> list[Prediction]:
        """Returns one row an image, by the likelihood of every option."""

        def ask(part: Sequence[AskedImage], hashes: Mapping[str, str], on_rows: OnRows, done: AbstractSet[str]) -> None:
            run_evaluation(
                part,
                scorer=scorer,
                hashes=hashes,
                on_rows=on_rows,
                done=done,
                progress=self.shop.progress,
                title=f"ask: {name}",
            )

        order = order_of_rows(images, batch_size=scorer.batch_size)
        return self._kept(name, images, ask, model_hash=model_hash, order=order)

    def written_rows(
        self, name: str, images: Sequence[AskedImage], *, responder: Responder, model_hash: str
    ) -> list[Prediction]:
        """Returns one row an image, as the model writes."""

        def ask(part: Sequence[AskedImage], hashes: Mapping[str, str], on_rows: OnRows, done: AbstractSet[str]) -> None:
            run_free_text(
                part,
                responder=responder,
                hashes=hashes,
                on_rows=on_rows,
                done=done,
                progress=self.shop.progress,
                title=f"write: {name}",
            )

        order = sorted(images, key=lambda image: image.decision.pred_label)
        return self._kept(name, images, ask, model_hash=model_hash, order=[image.image_id for image in order])

    def _kept(
        self, name: str, images: Sequence[AskedImage], ask: Ask, *, model_hash: str, order: Sequence[str]
    ) -> list[Prediction]:
        """Returns the rows of a finished artefact; an interrupted evaluation continues where it stopped.

        Args:
            name: of the row of the scoreboard.
            images: all of them.
            ask: about some of them.
            model_hash: of the weights that answer.
            order: ids of the images in the order of the rows.
        """
        asked = {image.image_id: [question.key for question in image.questions] for image in images}
        key = StageKey(
            stage="predictions",
            version=PREDICTIONS_VERSION,
            inputs={**self.inputs, "model": model_hash, "row": name, "questions": sha256_json(asked)},
            settings={"dtype": self.shop.config.model.dtype},
        )
        hashes = {"model": model_hash, "row": key.key, **self.inputs}

        def build_part(folder: Path, part: Sequence[AskedImage]) -> None:
            writer = PredictionWriter(folder / PREDICTIONS_NAME)
            with writer:
                if writer.resumed:
                    self.shop.progress.note(f"ask: {name}: continued behind {len(writer.resumed)} rows")

                def keep(rows: Sequence[Prediction]) -> None:
                    for row in rows:
                        writer.append(row)

                ask(part, hashes, keep, {row.image_id for row in writer.resumed})
            writer.finish()

        if self.shop.rank.world_size > 1:
            return shared_rows(self.shop, key, images, build_part, name=name, order=order)
        folder = self.shop.store.get_or_build(
            key, lambda folder: build_part(folder, images), title=f"predictions of {name}"
        )
        return read_predictions(folder / PREDICTIONS_NAME)


def asked_images(looked: Looked, material: Material, taught: Taught, *, renderer: PromptRenderer) -> list[AskedImage]:
    """Returns every test image with its questions, written by the renderer, and what it has cost so far."""
    return [_asked_image(image, looked, material, taught, renderer=renderer) for image in looked.test]


def _asked_image(
    image: GatedImage, looked: Looked, material: Material, taught: Taught, *, renderer: PromptRenderer
) -> AskedImage:
    record = image.record
    regions = material.questions[record.image_id] if image.decision.pred_label else []
    samples = [(number, sample) for number, orders in enumerate(regions) for sample in orders]
    views = {id(view): view for number, orders in enumerate(regions) for view in orders[0].views}
    seconds = {"detect": looked.detections[record.category].seconds_per_image}
    if samples:
        seconds["encode"] = sum(taught.features.seconds(view) for view in views.values())
    return AskedImage(
        image_id=record.image_id,
        category=record.category,
        group=image.group,
        gt_defect_type=record.defect_type,
        anomaly_score=image.detection.anomaly_score,
        decision=image.decision,
        regions=image.regions,
        questions=tuple(make_question(sample, renderer=renderer, region_index=number) for number, sample in samples),
        seconds=seconds,
    )


def scorer_of(
    shop: Workshop, model: BuiltModel, *, renderer: PromptRenderer, features: Callable[[View], ViewFeatures]
) -> OptionScorer:
    """Returns what asks a model, on the trainer's device."""
    device = make_device(shop.config)
    return OptionScorer(
        model=model.to(device),
        collate=collator(shop, renderer=renderer, features=features),
        batch_size=shop.config.evaluation.batch_size,
        device=device,
    )
