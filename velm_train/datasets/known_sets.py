"""Checks that a folder is the published data set it is said to be: names that are known in, what may be read out."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.datasets.found import FoundImage
from velm_train.datasets.reading import choose_categories, list_folders, nearest, printable, require_root


def known_categories(
    root: Path, requested: Sequence[str], *, dataset: str, known: Collection[str], inside: Collection[str]
) -> tuple[list[str], tuple[str, ...]]:
    """Returns the categories to read and notes on what is passed over.

    Args:
        root: folder that should hold the data set.
        requested: categories to read; empty for all that are there.
        dataset: name of the data set, for messages.
        known: every category that the data set has.
        inside: names of folders of which a category holds at least one.

    Raises:
        DataError: if the root is of another level or another data set, holds a category under an unknown name, or
            lacks a requested one.
    """
    require_root(root)
    folders = [folder.name for folder in list_folders(root)]
    present = [name for name in folders if name in known]
    if not present:
        raise DataError(_nothing_known(root, folders, dataset=dataset, known=known, inside=inside))
    strange = [name for name in folders if name not in known and _holds(root / name, inside)]
    if strange:
        raise DataError(
            f"{root} holds {strange[0]!r}{nearest(strange[0], known)}, which is no category of {dataset}; rename or "
            f"remove it, or read your own parts with dataset.reader=mvtec_style; known: {', '.join(sorted(known))}"
        )
    notes: list[str] = []
    others = [printable(Path(name)) for name in folders if name not in known]
    if others:
        notes.append(f"folders that are not categories are passed over: {', '.join(others)}")
    missing = sorted(set(known) - set(present))
    if missing and not requested:
        notes.append(f"{len(present)} of {len(known)} categories are there; without {', '.join(missing)}")
    return choose_categories(present, requested, root=root), tuple(notes)


def _holds(folder: Path, inside: Collection[str]) -> bool:
    return any((folder / name).is_dir() for name in inside)


def _nothing_known(
    root: Path, folders: list[str], *, dataset: str, known: Collection[str], inside: Collection[str]
) -> str:
    """Says why no category was found: the root lies too deep, too high, or is something else."""
    for folder in (root, *root.parents):
        if folder.name in known and _holds(folder, inside):
            where = "is itself" if folder == root else "lies inside"
            return f"data root {root} {where} the category {folder.name!r} of {dataset}; give {folder.parent}"
    for name in folders:
        if any((root / name / category).is_dir() for category in known):
            return f"data root {root} holds no category of {dataset}, but {root / name} does; give that folder"
    hints = [f"{name!r}{nearest(name, known)}" for name in folders[:3]]
    return (
        f"data root {root} holds no category of {dataset}; found {', '.join(hints)}; "
        f"expected {', '.join(sorted(known))}"
    )


def require_known_types(
    images: Sequence[FoundImage], known: Mapping[str, Collection[str]], *, dataset: str, hint: str
) -> None:
    """Checks the defect types of every category.

    Args:
        images: of any categories in `known`.
        known: category -> defect types.
        dataset: name of the data set, for messages.
        hint: what to do about a type that is not known.

    Raises:
        DataError: naming the first type that the data set does not have, with the nearest spelling.
    """
    for image in images:
        for name in image.defect_types:
            if name not in known[image.category]:
                raise DataError(
                    f"category {image.category!r} of {dataset} has no type {name!r}"
                    f"{nearest(name, known[image.category])}; {printable(image.path)} says it has; {hint}"
                )


def require_masks(images: Sequence[FoundImage], *, dataset: str) -> None:
    """Checks that every defect image has a mask.

    Raises:
        DataError: naming the first that has none.
    """
    bare = without_mask(images)
    if bare:
        raise DataError(
            f"defect image {printable(bare[0].path)} (one of {len(bare)}) has no mask; every one of {dataset} has, so "
            "the copy is not complete"
        )


def without_mask(images: Sequence[FoundImage]) -> list[FoundImage]:
    """Returns the defect images that have no mask."""
    return [image for image in images if image.defect_types and not image.gt_mask_paths]


def notes_on_masks(images: Sequence[FoundImage]) -> tuple[str, ...]:
    """Returns a note that counts the defect images without a mask, or none."""
    bare = without_mask(images)
    return (f"defect images without a mask: {len(bare)}, first {printable(bare[0].path)}",) if bare else ()
