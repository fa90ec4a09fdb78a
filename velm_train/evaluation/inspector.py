"""Pictures go in; what gate and model say about each comes out, in batches, with the seconds of every stage.

picture ──► read ──► detect ──► decide ─┬─ not flagged: done, the model is never asked
                                        └─► encode the views ──► answer ──► name, probabilities, regions
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from velm_train.core.answer_scores import AnswerPolicy
from velm_train.core.errors import DataError
from velm_train.core.images import read_rgb
from velm_train.core.inspection import Inspection
from velm_train.core.records import ImageRecord, Prediction
from velm_train.core.taxonomy import Taxonomy
from velm_train.detectors.protocol import Detector
from velm_train.evaluation.inspecting import AskedModel, Judge, JudgedPicture, LookingSettings, answer, detection_of
from velm_train.evaluation.new_pictures import (
    NewPicture,
    Pixels,
    ReadPicture,
    category_of,
    read_picture,
    write_pixels,
)
from velm_train.evaluation.verdicts import inspection_of, options_of, unreadable
from velm_train.gating.gate import CalibratedGate
from velm_train.pipeline.views import MapSource

OnRows = Callable[[Sequence[Inspection]], None]


@dataclass(frozen=True, kw_only=True)
class Inspector:
    """A finished system that names the defects on new pictures.

    Attributes:
        gates: category -> its calibrated gate.
        detectors: category -> its fitted detector.
        taxonomy: closed list of every category.
        references: category -> normal pictures, for questions that show one beside the new picture; else empty.
        known: sha256 -> role of the files that the run has used.
        asked: the tuned model.
        looking: regions and questions.
        answers: how far answers can be trusted; None if the run has not calibrated them.
        abstain_below: answers less probable than this are called "unsure", 0 to 1; 0 for none.
    """

    gates: Mapping[str, CalibratedGate]
    detectors: Mapping[str, Detector]
    taxonomy: Taxonomy
    references: Mapping[str, Sequence[ImageRecord]]
    known: Mapping[str, str]
    asked: AskedModel
    looking: LookingSettings
    answers: AnswerPolicy | None
    abstain_below: float
    _reference_maps: dict[str, dict[str, MapSource]] = field(default_factory=dict, repr=False)

    @property
    def categories(self) -> tuple[str, ...]:
        """What the run can judge."""
        return tuple(sorted(self.gates))

    def inspect(self, image: str | Path | Pixels, *, category: str | None = None) -> Inspection:
        """Inspects one picture.

        Args:
            image: a file, a PIL picture, or a uint8 array of (height, width, 3) in RGB order or grey (height, width).
            category: what it shows; may be left out if the run has one category, or a folder of the file is named so.

        Raises:
            DataError: if it is not a readable picture, or its category is not known.
        """
        if isinstance(image, str | Path):
            return self._inspect_file(Path(image).expanduser(), shown_path=str(image), category=category)
        with tempfile.TemporaryDirectory(prefix="velm_train_") as folder:
            path = Path(folder) / "pixels.png"
            write_pixels(image, path)
            if category is None and len(self.gates) > 1:
                raise DataError(f"pixels have no folder; say category=, one of: {', '.join(self.categories)}")
            return self._inspect_file(path, shown_path="", category=category)

    def _inspect_file(self, path: Path, *, shown_path: str, category: str | None) -> Inspection:
        found = category_of(path, given=category, categories=self.categories)
        if found is None:
            raise DataError(
                f"{path} lies in no folder named like a category; say category=, one of: {', '.join(self.categories)}"
            )
        rows: list[Inspection] = []
        self.inspect_many([NewPicture(path=path, shown_path=shown_path, category=found)], on_rows=rows.extend)
        (row,) = rows
        if row.verdict == "unreadable":
            raise DataError(row.error)
        return row

    def inspect_many(self, pictures: Sequence[NewPicture], *, on_rows: OnRows) -> None:
        """Inspects one batch of pictures, which are held in memory together.

        Args:
            pictures: each with a category of the run.
            on_rows: gets rows as soon as they are made, in any order; one a picture, an unreadable one included.

        Raises:
            GateError: if detector and gate do not belong together.
        """
        read: list[ReadPicture] = []
        for number, picture in enumerate(pictures):
            try:
                read.append(read_picture(picture, number=number))
            except DataError as error:
                on_rows([self._unreadable(picture, error, sha256="")])
        judged: list[JudgedPicture] = []
        for category in sorted({one.record.category for one in read}):
            judged += self._judge([one for one in read if one.record.category == category], category, on_rows=on_rows)
        if judged:
            self._answer(judged, on_rows=on_rows)

    def _judge(self, pictures: Sequence[ReadPicture], category: str, *, on_rows: OnRows) -> list[JudgedPicture]:
        judge = Judge(
            detector=self.detectors[category],
            gate=self.gates[category],
            taxonomy=self.taxonomy,
            references=self.references,
            looking=self.looking,
        )
        judged: list[JudgedPicture] = []
        for picture, outcome in zip(pictures, judge.judge(pictures), strict=True):
            if isinstance(outcome, DataError):
                error = DataError(f"image {picture.picture.path}: {outcome}")
                on_rows([self._unreadable(picture.picture, error, sha256=picture.record.sha256)])
            else:
                judged.append(outcome)
        return judged

    def _answer(self, judged: Sequence[JudgedPicture], *, on_rows: OnRows) -> None:
        by_id = {one.read.record.image_id: one for one in judged}
        sources = {
            image_id: MapSource(detection=one.image.detection, gate=self.gates[one.read.record.category])
            for image_id, one in by_id.items()
        }
        for category in {one.read.record.category for one in judged if one.questions}:
            sources |= self._references_of(category)
        answer(
            judged,
            sources=sources,
            asked=self.asked,
            looking=self.looking,
            on_rows=lambda rows: on_rows([self._inspection(by_id[row.image_id], row) for row in rows]),
        )

    def _inspection(self, one: JudgedPicture, row: Prediction) -> Inspection:
        record = one.read.record
        options = options_of(
            row.option_log_likelihoods,
            category=record.category,
            taxonomy=self.taxonomy,
            answers=self.answers,
        )
        return inspection_of(
            one.image,
            row,
            path=one.read.picture.shown_path,
            crops=one.crops,
            options=options,
            abstain_below=self.abstain_below,
            role_in_run=self.known[record.sha256] if record.sha256 in self.known else "",
        )

    def _references_of(self, category: str) -> dict[str, MapSource]:
        """Returns the maps of the references of one category, made once."""
        if category not in self._reference_maps:
            detector, gate = self.detectors[category], self.gates[category]
            sources: dict[str, MapSource] = {}
            for record in self.references[category] if category in self.references else ():
                (raw,) = detector.detect([read_rgb(record.image_path)], image_ids=[record.image_id])
                sources[record.image_id] = MapSource(detection=detection_of(record, raw, detector=detector), gate=gate)
            self._reference_maps[category] = sources
        return self._reference_maps[category]

    def _unreadable(self, picture: NewPicture, error: DataError, *, sha256: str) -> Inspection:
        return unreadable(
            picture.shown_path,
            category=picture.category,
            error=str(error),
            gate_policy=self.looking.policy,
            sha256=sha256,
        )
