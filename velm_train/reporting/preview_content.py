"""What the data preview is made of: plain data, counted here or filled in by the caller, that the template reads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from velm_train.core.records import NORMAL_DEFECT_TYPE, ImageRecord, SizeHW

LEFT_OUT = "left out"
ROLES = ("train", "calibration", "reference", "validation", "test", LEFT_OUT)
"""Columns of the page, in this order; the last is for images without a role in the protocol."""

RunKind = Literal["text", "view", "supervised"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeCount:
    """How many images have one size, (height, width) in pixels."""

    size_hw: SizeHW
    num_images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCounts:
    """Numbers of images of one category or of one of its types.

    Attributes:
        num_normal: images without a defect.
        num_with_gt_mask: defective images with at least one mask file.
        num_groups: physical parts; below num_images where parts are seen several times.
        by_role: every one of ROLES -> images; all zero where no roles could be given.
        sizes: commonest first.
    """

    num_images: int
    num_normal: int
    num_with_gt_mask: int
    num_groups: int
    by_role: dict[str, int]
    sizes: tuple[SizeCount, ...]

    @property
    def num_defective(self) -> int:
        """Images that show a defect."""
        return self.num_images - self.num_normal


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeCounts:
    """Numbers of one type; its folder name as in `ImageRecord.defect_type`."""

    defect_type: str
    counts: ImageCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryCounts:
    """Numbers of one category and of its types, good first."""

    name: str
    unseen: bool
    counts: ImageCounts
    types: tuple[TypeCounts, ...]

    @property
    def num_defect_types(self) -> int:
        """Types that are not good; joint ones of images with several defects count as one."""
        return sum(kind.defect_type != NORMAL_DEFECT_TYPE for kind in self.types)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thumbnail:
    """One image to look at.

    Attributes:
        image_id: whole name, shown when pointed at.
        label: shorter name, always shown.
        role: one of ROLES, or "" where no roles could be given.
        size_hw: of the original, pixels.
        outlined: True if a mask is outlined.
        note: what is amiss, such as a missing mask, or "".
        uri: the picture as a data URI, or "" if it cannot be read.
        shown_hw: size of the picture in `uri`, pixels.
    """

    image_id: str
    label: str
    role: str
    size_hw: SizeHW
    outlined: bool
    note: str
    uri: str
    shown_hw: SizeHW


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedReason:
    """A thing that was left out, and why; for reasons that many images share, `name` is their number."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanMax:
    """Mean and maximum of a number of tokens over samples."""

    mean: float
    maximum: int

    @classmethod
    def of(cls, numbers: Sequence[int]) -> "MeanMax":
        """Returns mean and maximum; there is at least one number."""
        assert numbers
        return cls(mean=sum(numbers) / len(numbers), maximum=max(numbers))


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRow:
    """Tokens of all samples of one task, or of all tasks."""

    task: str
    num_samples: int
    text: MeanMax
    image: MeanMax
    supervised: MeanMax
    total: MeanMax


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleView:
    """One view of a sample.

    Attributes:
        uri: the picture the model is shown, reduced, as a data URI.
        shown_hw: size of the picture in `uri`, pixels.
        size_hw: size of the view before the model resizes it, pixels.
    """

    kind: str
    image_id: str
    uri: str
    shown_hw: SizeHW
    size_hw: SizeHW


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRun:
    """Neighbouring tokens of one kind, as text; for views the placeholder's name."""

    text: str
    kind: RunKind
    num_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleOption:
    """One entry of the closed list; `meaning` is the type it stands for."""

    answer: str
    meaning: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleCard:
    """One training sample as the model sees it.

    Attributes:
        messages: (role, text) of every turn before the answer.
        runs: the sample as tokens, in order.
        provenance: where the sample came from, by name.
    """

    sample_id: str
    task: str
    category: str
    views: tuple[SampleView, ...]
    messages: tuple[tuple[str, str], ...]
    options: tuple[SampleOption, ...]
    target: str
    num_text: int
    num_image: int
    num_supervised: int
    runs: tuple[SampleRun, ...]
    provenance: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSection:
    """What the model would be taught.

    Attributes:
        tokens: one row a task, and a last one over all if there are several.
        max_tokens: longest sample allowed.
        tokens_per_view: fewest and most placeholders that one view takes.
        num_questions: test images that would be asked about.
    """

    cards: tuple[SampleCard, ...]
    tokens: tuple[TokenRow, ...]
    num_samples: int
    max_tokens: int
    tokens_per_view: tuple[int, int]
    num_questions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewContent:
    """Everything on the page.

    Attributes:
        title: name of the data set.
        subtitle: where it came from and how it is split, in one line.
        notices: sentences that a reader must not miss.
        with_roles: False if the protocol could not give any.
        counts: over all categories.
        thumbnails: (category, defect type) -> images to look at.
        left_out: images without a role, by reason.
        excluded: files that cannot be used.
        samples: None if only the data was looked at.
        config_yaml: the resolved configuration.
    """

    title: str
    subtitle: str
    notices: tuple[str, ...]
    with_roles: bool
    counts: ImageCounts
    categories: tuple[CategoryCounts, ...]
    thumbnails: dict[tuple[str, str], tuple[Thumbnail, ...]]
    left_out: tuple[NamedReason, ...]
    excluded: tuple[NamedReason, ...]
    samples: SampleSection | None
    config_yaml: str


def count_images(records: Sequence[ImageRecord], *, roles: Mapping[str, str]) -> ImageCounts:
    """Counts images by role, mask, part and size.

    Args:
        records: the images.
        roles: image_id -> one of ROLES; empty if no roles could be given.
    """
    by_role = Counter(roles[record.image_id] for record in records if roles)
    sizes = Counter(record.size_hw for record in records)
    return ImageCounts(
        num_images=len(records),
        num_normal=sum(not record.gt_label for record in records),
        num_with_gt_mask=sum(bool(record.gt_mask_paths) for record in records if record.gt_label),
        num_groups=len({record.group_id for record in records}),
        by_role={role: by_role[role] for role in ROLES},
        sizes=tuple(
            SizeCount(size_hw=size_hw, num_images=number)
            for size_hw, number in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def count_categories(
    records: Sequence[ImageRecord], *, roles: Mapping[str, str], unseen: Sequence[str]
) -> tuple[CategoryCounts, ...]:
    """Counts every category and type, in alphabetical order, good first.

    Args:
        records: all images of the data set.
        roles: image_id -> one of ROLES; empty if no roles could be given.
        unseen: categories that training never sees.
    """
    by_type: dict[str, dict[str, list[ImageRecord]]] = {}
    for record in records:
        by_type.setdefault(record.category, {}).setdefault(record.defect_type, []).append(record)
    return tuple(
        CategoryCounts(
            name=name,
            unseen=name in unseen,
            counts=count_images([record for members in types.values() for record in members], roles=roles),
            types=tuple(
                TypeCounts(defect_type=kind, counts=count_images(types[kind], roles=roles))
                for kind in sorted(types, key=lambda kind: (kind != NORMAL_DEFECT_TYPE, kind))
            ),
        )
        for name, types in sorted(by_type.items())
    )
