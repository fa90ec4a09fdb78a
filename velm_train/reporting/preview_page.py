"""What is in a data set goes in; one self-contained HTML page without scripts comes out."""

from dataclasses import dataclass
from pathlib import Path

from velm_train.core.artifacts import write_atomic
from velm_train.core.records import NORMAL_DEFECT_TYPE, SizeHW
from velm_train.reporting.pages import render_page
from velm_train.reporting.preview_content import (
    ROLES,
    CategoryCounts,
    ImageCounts,
    NamedReason,
    PreviewContent,
    SizeCount,
    Thumbnail,
)

MAX_OPEN_CATEGORIES = 6
"""With more categories than this, all but the first are folded away."""

MAX_LISTED = 300
"""Excluded files that are named; the rest is counted."""

MAX_SIZES = 8
"""Image sizes that are named; the rest is counted."""

TIMES = "\N{MULTIPLICATION SIGN}"

_ROLE_CLASSES = {role: f"role-{role.replace(' ', '-')}" for role in ROLES}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """One large figure with what it counts."""

    figure: str
    label: str
    detail: str


def write_preview_page(content: PreviewContent, path: Path) -> None:
    """Writes the page atomically.

    Raises:
        ResourceError: if the file cannot be written.
    """
    write_atomic(path, render_preview_page(content))


def render_preview_page(content: PreviewContent) -> str:
    """Returns the page as HTML text."""
    return render_page(
        "preview.html.j2",
        styles=("report.css", "preview.css"),
        names={"content": content, "view": PreviewView(content)},
    )


class PreviewView:
    """What the template asks about the content beyond its plain fields."""

    def __init__(self, content: PreviewContent) -> None:
        """Remembers the content."""
        self._content = content

    @property
    def roles(self) -> tuple[str, ...]:
        """Columns of roles; none where no roles could be given."""
        return ROLES if self._content.with_roles else ()

    @property
    def with_groups(self) -> bool:
        """True if a physical part is seen several times."""
        return self._content.counts.num_groups < self._content.counts.num_images

    @property
    def listed_files(self) -> tuple[NamedReason, ...]:
        """The excluded files that are named."""
        return self._content.excluded[:MAX_LISTED]

    def tiles(self) -> list[Tile]:
        """Returns the figures at the top."""
        counts, categories = self._content.counts, self._content.categories
        num_types = sum(category.num_defect_types for category in categories)
        tiles = [
            Tile(
                figure=number(counts.num_images),
                label="image" if counts.num_images == 1 else "images",
                detail=f"{number(counts.num_normal)} good, {number(counts.num_defective)} defective",
            ),
            Tile(
                figure=number(len(categories)),
                label="category" if len(categories) == 1 else "categories",
                detail=f"{number(num_types)} defect type{'' if num_types == 1 else 's'} in all",
            ),
            Tile(figure=size(counts.sizes[0].size_hw), label="pixels", detail=self._size_detail()),
            Tile(
                figure=f"{number(counts.num_with_gt_mask)} of {number(counts.num_defective)}",
                label="defects with a mask",
                detail=_mask_detail(counts),
            ),
        ]
        if self.with_groups:
            tiles.append(
                Tile(figure=number(counts.num_groups), label="parts", detail="seen several times; kept on one side")
            )
        return tiles

    def _size_detail(self) -> str:
        sizes = self._content.counts.sizes
        if len(sizes) == 1:
            return f"width {TIMES} height of every image"
        share = sizes[0].num_images / self._content.counts.num_images
        return f"{100 * share:.0f} % of images; {len(sizes)} sizes in all"

    def is_open(self, index: int) -> bool:
        """True if the category at this place is shown unfolded."""
        return index == 0 or len(self._content.categories) <= MAX_OPEN_CATEGORIES

    def thumbnails(self, category: str, defect_type: str) -> tuple[Thumbnail, ...]:
        """Returns the images of one type to look at."""
        return self._content.thumbnails[category, defect_type]

    def sizes(self, counts: ImageCounts) -> str:
        """Returns one size, or the smallest and the largest by area."""
        by_area = sorted((entry.size_hw for entry in counts.sizes), key=lambda hw: (hw[0] * hw[1], hw))
        if len(by_area) == 1:
            return size(by_area[0])
        return f"{size(by_area[0])} to {size(by_area[-1])}"

    def listed_sizes(self) -> tuple[SizeCount, ...]:
        """Returns the commonest sizes."""
        return self._content.counts.sizes[:MAX_SIZES]

    def num_other_sizes(self) -> int:
        """Returns how many sizes are not listed."""
        return max(0, len(self._content.counts.sizes) - MAX_SIZES)

    def untrained_types(self, category: CategoryCounts) -> list[str]:
        """Returns the defect types of a seen category that training gets no image of."""
        if category.unseen or not self._content.with_roles:
            return []
        return [
            kind.defect_type
            for kind in category.types
            if kind.defect_type != NORMAL_DEFECT_TYPE and not kind.counts.by_role["train"]
        ]

    def role_class(self, role: str) -> str:
        """Returns the CSS class that colours a role."""
        return _ROLE_CLASSES[role]

    def role_summary(self, counts: ImageCounts) -> str:
        """Returns the numbers of every role that occurs, in words."""
        return ", ".join(f"{number} {role}" for role, number in counts.by_role.items() if number)

    def count(self, value: int) -> str:
        """Returns a number with thousands set apart."""
        return number(value)

    def size(self, size_hw: SizeHW) -> str:
        """Returns width and height as text."""
        return size(size_hw)

    def shown_wh(self, image_hw: SizeHW, longer_side_px: int) -> tuple[int, int]:
        """Returns width and height on the page, CSS pixels: the given shape with the given longer side."""
        scale = longer_side_px / max(image_hw)
        return max(1, round(image_hw[1] * scale)), max(1, round(image_hw[0] * scale))


def number(value: int) -> str:
    """Returns a number with a thin blank between thousands."""
    return f"{value:,}".replace(",", "\N{THIN SPACE}")


def size(size_hw: SizeHW) -> str:
    """Returns width times height, as people name the size of a picture."""
    return f"{size_hw[1]} {TIMES} {size_hw[0]}"


def _mask_detail(counts: ImageCounts) -> str:
    missing = counts.num_defective - counts.num_with_gt_mask
    if counts.num_defective == 0:
        return "there are no defective images"
    return f"{number(missing)} without" if missing else "outlined in red below"
