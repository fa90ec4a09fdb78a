"""What a reader hands over: image files with what their place in the folders says, before any file is opened."""

from dataclasses import dataclass
from pathlib import Path

from velm_train.core.records import NORMAL_DEFECT_TYPE, TYPE_JOINER, Split


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundImage:
    """One image file.

    Attributes:
        path: the image file.
        category: name of the category.
        relative_path: path below the category folder, with forward slashes; with data set and category the image_id.
        split: the folder's split.
        defect_types: every type the image shows, each once; empty for a normal image.
        gt_mask_paths: mask files, whose union is the defect.
        group_id: the physical part, or None for an image of its own.
        where: row of a table that named the image, for error messages; "" if none did.
    """

    path: Path
    category: str
    relative_path: str
    split: Split
    defect_types: tuple[str, ...]
    gt_mask_paths: tuple[Path, ...]
    group_id: str | None
    where: str

    @property
    def defect_type(self) -> str:
        """The types in the form of `ImageRecord.defect_type`."""
        return TYPE_JOINER.join(sorted(self.defect_types)) or NORMAL_DEFECT_TYPE


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Everything a reader found below a root.

    Attributes:
        images: in any order.
        notes: what the user should know about what was passed over, one line each.
    """

    images: tuple[FoundImage, ...]
    notes: tuple[str, ...]


def types_of_folder(name: str) -> tuple[str, ...]:
    """Returns the defect types that a folder's name stands for: none for "good", several for `bubble+leak`."""
    return () if name == NORMAL_DEFECT_TYPE else tuple(sorted(set(name.split(TYPE_JOINER))))
