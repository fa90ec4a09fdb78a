"""What the defect types of a dataset are called and look like: `category -> defect_type -> text`."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE

TAXONOMY_SCHEMA_VERSION = 1

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class DefectType:
    """How one type is named and described to the model.

    Attributes:
        display_name: lower-case name that the model reads and answers.
        description: one sentence on what it looks like.
        synonyms: other names people use, for paraphrased training prompts.
    """

    display_name: str
    description: str
    synonyms: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryTaxonomy:
    """One category's object noun, description of a good part, and defect types by folder name."""

    noun: str
    normal_description: str
    defect_types: Mapping[str, DefectType]


@dataclass(frozen=True, kw_only=True, slots=True)
class Taxonomy:
    """Every category of one dataset."""

    dataset: str
    categories: Mapping[str, CategoryTaxonomy]

    def validate(self, found: Mapping[str, set[str]]) -> None:
        """Compares with the folders on disk.

        Args:
            found: category -> defect types that occur on disk, without "good".

        Raises:
            DataError: naming every category or type that is on one side only, with the nearest spelling.
        """
        problems: list[str] = []
        for category, types in sorted(found.items()):
            if category not in self.categories:
                problems.append(_unknown(f"category {category!r}", category, set(self.categories)))
                continue
            known = set(self.categories[category].defect_types)
            where = f"{category}: defect type "
            problems += [_unknown(f"{where}{name!r}", name, known) for name in sorted(types - known)]
            unused = sorted(known - types)
            problems += [f"{where}{name!r} is in the taxonomy but has no folder" for name in unused]
        if problems:
            raise DataError(f"taxonomy {self.dataset!r} does not match the folders: " + "; ".join(problems))


def _unknown(what: str, name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{what} is on disk but not in the taxonomy{hint}"


def read_taxonomy(path: Path) -> Taxonomy:
    """Reads a taxonomy JSON file.

    Raises:
        DataError: if the file is absent, is not JSON, has another schema version, or a field is missing or of
            another kind.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"taxonomy {path} cannot be read: {error}") from error
    where = f"taxonomy {path}"
    version = _field(content, "schema_version", int, where=where)
    if version != TAXONOMY_SCHEMA_VERSION:
        raise DataError(f"{where}: schema version {version}, expected {TAXONOMY_SCHEMA_VERSION}")
    categories = _field(content, "categories", dict, where=where)
    return Taxonomy(
        dataset=_field(content, "dataset", str, where=where),
        categories={name: _read_category(body, where=f"{where}: {name}") for name, body in categories.items()},
    )


def _read_category(body: object, *, where: str) -> CategoryTaxonomy:
    types = _field(body, "defect_types", dict, where=where)
    return CategoryTaxonomy(
        noun=_field(body, "noun", str, where=where),
        normal_description=_field(body, "normal_description", str, where=where),
        defect_types={
            name: _read_type(entry, where=f"{where}/{name}")
            for name, entry in types.items()
            if name != NORMAL_DEFECT_TYPE
        },
    )


def _read_type(body: object, *, where: str) -> DefectType:
    synonyms = _field(body, "synonyms", list, where=where)
    if not all(isinstance(word, str) for word in synonyms):
        raise DataError(f"{where}: synonyms {synonyms} are not all text")
    return DefectType(
        display_name=_field(body, "display_name", str, where=where),
        description=_field(body, "description", str, where=where),
        synonyms=tuple(synonyms),
    )


def _field(body: object, name: str, kind: type[Value], *, where: str) -> Value:
    if not isinstance(body, dict) or name not in body:
        raise DataError(f"{where}: field {name!r} is missing")
    value = body[name]
    if not isinstance(value, kind):
        raise DataError(f"{where}: field {name!r} is {value!r}, expected {kind.__name__}")
    return value


def derive_taxonomy(dataset: str, found: Mapping[str, set[str]]) -> Taxonomy:
    """Makes a taxonomy from folder names alone, for datasets that bring none.

    Underscores and hyphens become spaces; descriptions are empty and no synonyms are known.
    """

    def readable(name: str) -> str:
        return name.replace("_", " ").replace("-", " ").lower()

    return Taxonomy(
        dataset=dataset,
        categories={
            category: CategoryTaxonomy(
                noun=readable(category),
                normal_description="",
                defect_types={
                    name: DefectType(display_name=readable(name), description="", synonyms=()) for name in sorted(types)
                },
            )
            for category, types in found.items()
        },
    )
