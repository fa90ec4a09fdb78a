"""The category folders of a data set with one folder a category: root and wanted names in, checked folders out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from velm_train.core.errors import DataError
from velm_train.datasets.reading import choose_categories, list_folders, require_root


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenFolders:
    """The category folders to read.

    Attributes:
        folders: in alphabetical order.
        notes: which folders were passed over, one line.
    """

    folders: tuple[Path, ...]
    notes: tuple[str, ...]


def choose_category_folders(
    root: Path, categories: Sequence[str], *, is_category: Callable[[Path], bool], expected: str
) -> ChosenFolders:
    """Finds the category folders below a root.

    Args:
        root: folder that holds one folder a category.
        categories: categories to read; empty for all.
        is_category: tells by its content whether a folder is one category.
        expected: what a category folder holds, for messages.

    Raises:
        DataError: if the root is missing, too deep or not deep enough, or a category is not there.
    """
    require_root(root)
    if is_category(root):
        raise DataError(f"data root {root} is itself a category (it holds {expected}); give its parent folder")
    folders = list_folders(root)
    present = [folder.name for folder in folders if is_category(folder)]
    if not present:
        deeper = [folder for folder in folders if any(is_category(entry) for entry in list_folders(folder))]
        hint = f"; {deeper[0]} does: set dataset.root to it" if deeper else ""
        raise DataError(f"data root {root} holds no category: none of its folders has {expected}{hint}")
    skipped = [folder.name for folder in folders if folder.name not in present]
    notes = (f"folders without {expected} are not categories: {', '.join(skipped)}",) if skipped else ()
    chosen = choose_categories(present, categories, root=root)
    return ChosenFolders(folders=tuple(root / name for name in chosen), notes=notes)
