"""What instructions are made of: one place that the gate let through, with its reference and its truth."""

from dataclasses import dataclass

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE, BoxXYXY, GatePolicy, ImageRecord, Region


class ImpossibleSampleError(DataError):
    """A task cannot be built from a finding; the message is the reason that is recorded with the drop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One place of one gated image.

    Attributes:
        region: the place, or None if the gate's policy gives none.
        region_index: its number within the image, from 0.
        crop_box_xyxy: the region with its context, original pixels, half-open; None if there is no region.
        reference: a normal image to compare with, from train/good; None if there is none.
        answer_defect_type: what the place really shows; "good" for a false alarm; None if nobody knows.
    """

    record: ImageRecord
    region: Region | None
    region_index: int
    crop_box_xyxy: BoxXYXY | None
    reference: ImageRecord | None
    answer_defect_type: str | None
    gate_policy: GatePolicy

    def __post_init__(self) -> None:
        """Refuses regions of other images and references that are not training normals."""
        if self.region is not None and self.region.image_id != self.record.image_id:
            raise DataError(f"{self.record.image_id}: the region belongs to {self.region.image_id}")
        reference = self.reference
        if reference is None:
            return
        if reference.split != "train" or reference.defect_type != NORMAL_DEFECT_TYPE:
            raise DataError(
                f"{self.record.image_id}: reference {reference.image_id} is {reference.split}/{reference.defect_type}; "
                "references come from train/good only"
            )
        if reference.sha256 == self.record.sha256:
            raise DataError(f"{self.record.image_id}: reference {reference.image_id} is the same picture")
