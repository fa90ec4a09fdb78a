"""The records that pass between stages: frozen, validated, free of torch.

    disk -> ImageRecord -> Detection -> GateDecision -> Region -> InstructionSample -> ... -> Prediction

Coordinates are original image pixels. Boxes are half-open `(x0, y0, x1, y1)`; sizes are `(height, width)`.
Ground truth is `gt_*` or `defect_type`; what a model says is `pred_*`.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from velm_train.core.appearance import AS_IT_IS, Appearance
from velm_train.core.errors import DataError
from velm_train.core.shapes import AnomalyMap, ContourPoints

NORMAL_DEFECT_TYPE = "good"
"""The folder name, and so the defect type, of a normal image."""

TYPE_JOINER = "+"
"""Joins the types of an image that shows several, in alphabetical order: `bubble+leak`."""

NO_DEFECT_OPTION = "no defect"
"""The option meaning that the detector raised a false alarm."""

NONE_OF_THESE_OPTION = "none of these"
"""The option meaning that the defect is of a type that is not on the list."""

Split = Literal["train", "test"]
Role = Literal["train", "calibration", "reference", "validation", "test"]
GatePolicy = Literal["detector", "oracle", "off"]
CalibrationKind = Literal["leave_one_out", "k_fold", "split"]
"""How the scores that calibrate a gate were made out-of-sample."""

RegionSource = Literal["detector", "oracle", "whole_image"]
ViewKind = Literal["reference", "query", "query_contour", "crop"]

BoxXYXY = tuple[int, int, int, int]
SizeHW = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRecord:
    """One image on disk with what is known about it.

    Attributes:
        image_id: `<dataset>/<category>/<path below the category folder>`, unique in a dataset.
        split: the folder the image came from ("train" or "test"), not its role in a protocol.
        defect_type: the type's folder name; "good" is normal; several types of one image are joined by TYPE_JOINER.
        gt_mask_paths: the mask files, whose union is the defect; empty for a defect that nobody has outlined. A
            normal image has none, or blank ones.
        sha256: of the image file's bytes.
        group_id: the physical part; equal for several views of one part. Defaults to image_id at the reader.
        size_hw: height and width in pixels after EXIF rotation.
    """

    image_id: str
    dataset: str
    category: str
    split: Split
    defect_type: str
    image_path: Path
    gt_mask_paths: tuple[Path, ...]
    sha256: str
    group_id: str
    size_hw: SizeHW

    def __post_init__(self) -> None:
        """Checks what every later stage relies on."""
        if min(self.size_hw) < 1:
            raise DataError(f"{self.image_id}: size_hw is {self.size_hw}; both sides must be at least 1 pixel")
        if len(self.sha256) != 64:
            raise DataError(f"{self.image_id}: sha256 has {len(self.sha256)} characters instead of 64")
        parts = self.defect_type.split(TYPE_JOINER)
        if not all(parts) or parts != sorted(set(parts)) or (len(parts) > 1 and NORMAL_DEFECT_TYPE in parts):
            raise DataError(
                f"{self.image_id}: defect_type is {self.defect_type!r}; several types are joined by {TYPE_JOINER!r} in "
                "alphabetical order, each once, and 'good' stands alone"
            )

    @property
    def defect_types(self) -> tuple[str, ...]:
        """Every type the image shows, in alphabetical order; empty for a normal image."""
        return tuple(self.defect_type.split(TYPE_JOINER)) if self.gt_label else ()

    @property
    def gt_label(self) -> bool:
        """True if the image shows a defect."""
        return self.defect_type != NORMAL_DEFECT_TYPE


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """What the frozen detector says about one image.

    Attributes:
        anomaly_score: raw detector units, higher is more anomalous; never normalised.
        anomaly_map: raw detector units at the detector's own resolution, covering the whole image.
        image_size_hw: size in pixels of the image that the map covers.
        out_of_sample: True if the image had no part in what it was scored against.
    """

    image_id: str
    detector_hash: str
    anomaly_score: float
    anomaly_map: AnomalyMap
    image_size_hw: SizeHW
    out_of_sample: bool

    def __post_init__(self) -> None:
        """Refuses scores and maps that are not finite: a NaN compares as normal."""
        if not math.isfinite(self.anomaly_score):
            raise DataError(f"{self.image_id}: anomaly_score is {self.anomaly_score}; it must be finite")
        if not bool(np.isfinite(self.anomaly_map).all()):
            raise DataError(f"{self.image_id}: anomaly_map holds values that are not finite")


@dataclass(frozen=True, kw_only=True, slots=True)
class GateDecision:
    """Whether an image goes on to the language model, and on what ground.

    Attributes:
        p_value: conformal p-value in (0, 1].
        alpha: the false-alarm rate asked for, in (0, 1).
        image_threshold: an image is flagged iff its anomaly_score exceeds this (raw units).
        pred_label: True if flagged.
    """

    image_id: str
    p_value: float
    alpha: float
    image_threshold: float
    pred_label: bool
    policy: GatePolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """One place to look at.

    Attributes:
        box_xyxy: bounding box of the component, half-open, original pixels, inside the image.
        contour: outline points (x, y) in original pixels; empty (0, 2) for a whole-image region.
        area_px: component area in original pixels, at least 1.
        peak_score: highest anomaly_map value inside, raw units.
    """

    image_id: str
    box_xyxy: BoxXYXY
    contour: ContourPoints
    area_px: int
    peak_score: float
    source: RegionSource

    def __post_init__(self) -> None:
        """Checks that the box is not empty."""
        x0, y0, x1, y1 = self.box_xyxy
        if x1 <= x0 or y1 <= y0:
            raise DataError(f"{self.image_id}: region box {self.box_xyxy} is empty")


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """One picture the model is shown, as a recipe: which file, which part of it, what is drawn on it.

    Attributes:
        image_id: the image the pixels come from.
        box_xyxy: the part to cut out, original pixels, half-open; the whole image for full views.
        contour: points (x, y) to draw in original pixels, or empty (0, 2) for none.
        appearance: how the image is shown before anything is drawn on it or cut out of it; box and contour then count
            in the pixels of what is shown. Drawn anew at each visit of training, and part of no file.
    """

    kind: ViewKind
    image_id: str
    image_path: Path
    sha256: str
    box_xyxy: BoxXYXY
    contour: ContourPoints
    appearance: Appearance = AS_IT_IS

    @property
    def size_hw(self) -> SizeHW:
        """Height and width of the view, pixels."""
        x0, y0, x1, y1 = self.box_xyxy
        return (y1 - y0, x1 - x0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One chat turn; `<image>` in `text` stands for the next view, in order."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One entry of the closed list.

    Attributes:
        answer: the text that is written or scored.
        defect_type: the type it stands for; "good" for "no defect"; None for "none of these".
    """

    answer: str
    defect_type: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionSample:
    """One question about one region, with its answer.

    Attributes:
        sample_id: unique; image_id, region index, task and repetition.
        task: name of the task template.
        views: in the order in which `<image>` occurs in the messages.
        messages: the turns before the answer.
        target: the answer to learn; at inference the gold answer for scoring, never shown to the model.
        options: the closed list in the order shown; empty for tasks that are not closed.
        provenance: plain strings that say where the sample came from (gate policy, region source, ...).
    """

    sample_id: str
    image_id: str
    category: str
    task: str
    views: tuple[View, ...]
    messages: tuple[Message, ...]
    target: str
    options: tuple[Option, ...]
    provenance: dict[str, str]

    def __post_init__(self) -> None:
        """Checks that every view has its placeholder."""
        num_placeholders = sum(message.text.count("<image>") for message in self.messages)
        if num_placeholders != len(self.views):
            raise DataError(f"{self.sample_id}: {len(self.views)} views but {num_placeholders} <image> placeholders")


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One row of predictions.jsonl: the whole system's word about one image.

    Attributes:
        gt_defect_type: the true type ("good" is normal), or None on new images without labels.
        pred_label: the gate's decision; False means the language model was never asked.
        option_log_likelihoods: option answer -> log-likelihood, averaged over orders; empty if never asked.
        pred_defect_type: the named type; "good" if the gate let it pass or "no defect" won; None for "none of
            these" and for an unparsed response.
        response: free text if any was generated, else "".
        seconds: stage name -> seconds spent on this image.
        hashes: what made the row (detector, gate, model, code).
    """

    image_id: str
    category: str
    group: str
    gt_defect_type: str | None
    anomaly_score: float
    p_value: float
    pred_label: bool
    gate_policy: GatePolicy
    option_log_likelihoods: dict[str, float]
    pred_defect_type: str | None
    response: str
    region_boxes_xyxy: tuple[BoxXYXY, ...]
    seconds: dict[str, float]
    hashes: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Returns a plain dictionary that `from_json` reads back to an equal record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Prediction":
        """Reads a row written by `to_json`.

        Raises:
            DataError: if a field is missing or unknown.
        """
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(row) != expected:
            missing, unknown = sorted(expected - set(row)), sorted(set(row) - expected)
            raise DataError(f"prediction row: missing fields {missing}, unknown fields {unknown}")
        boxes = tuple(tuple(box) for box in row["region_boxes_xyxy"])
        return cls(**{**row, "region_boxes_xyxy": boxes})
