"""What the defect types of a dataset are called and look like: `category -> defect_type -> text`."""

import difflib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from velm_train.core.errors import DataError
from velm_train.core.records import NO_DEFECT_OPTION, NONE_OF_THESE_OPTION, NORMAL_DEFECT_TYPE, TYPE_JOINER

TAXONOMY_SCHEMA_VERSION = 2

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class DefectType:
    """How one type is named and described to the model.

    Attributes:
        display_name: lower-case name that the model reads and answers.
        description: one sentence on what it looks like.
        synonyms: other names people use, for paraphrased training prompts.
        orientation_matters: True if a mirrored or turned picture may show another type, or none. Mirroring can also
            make this type out of a good part, so it rules the whole category out.
        optional: True if a complete copy of the dataset may have no image of this type.
    """

    display_name: str
    description: str
    synonyms: tuple[str, ...]
    orientation_matters: bool = False
    optional: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryTaxonomy:
    """One category's object noun, description of a good part, and defect types by folder name."""

    noun: str
    normal_description: str
    defect_types: Mapping[str, DefectType]

    @property
    def orientation_matters(self) -> bool:
        """True if pictures of this category must not be mirrored or turned."""
        return any(kind.orientation_matters for kind in self.defect_types.values())

    def type_of(self, defect_type: str) -> DefectType:
        """Returns how a type is named and described; types joined as `a+b` read "a and b".

        A joined type has the parts' descriptions one after the other and no synonyms.

        Args:
            defect_type: one type, or several in the form of `ImageRecord.defect_type`; never "good".

        Raises:
            DataError: if a part is not in the taxonomy, with the nearest spelling.
        """
        names = defect_type.split(TYPE_JOINER)
        for name in names:
            if name not in self.defect_types:
                hint = _did_you_mean(name, self.defect_types)
                known = ", ".join(sorted(self.defect_types))
                raise DataError(f"{self.noun!r} has no defect type {name!r}{hint}; known: {known}")
        kinds = [self.defect_types[name] for name in names]
        if len(kinds) == 1:
            return kinds[0]
        *first, last = [kind.display_name for kind in kinds]
        return DefectType(
            display_name=f"{', '.join(first)} and {last}",
            description=" ".join(kind.description for kind in kinds if kind.description),
            synonyms=(),
            orientation_matters=any(kind.orientation_matters for kind in kinds),
            optional=any(kind.optional for kind in kinds),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Taxonomy:
    """Every category of one dataset."""

    dataset: str
    categories: Mapping[str, CategoryTaxonomy]

    def validate(self, found: Mapping[str, set[str]]) -> None:
        """Compares with what is on disk.

        A category that was not read may be in the taxonomy, and an optional type may have no image.

        Args:
            found: category -> defect types that occur on disk, each on its own, without "good".

        Raises:
            DataError: naming every category or type that is on one side only, with the nearest spelling, and what
                to do about it.
        """
        unknown: list[str] = []
        absent: list[str] = []
        for category, types in sorted(found.items()):
            if category not in self.categories:
                unknown.append(_unknown(f"category {category!r}", category, self.categories))
                continue
            known = self.categories[category].defect_types
            where = f"{category}: defect type "
            unknown += [_unknown(f"{where}{name!r}", name, known) for name in sorted(types - set(known))]
            unused = [name for name in sorted(set(known) - types) if not known[name].optional]
            if unused and not types:
                absent.append(f"{category}: no image of any defect type is on disk, expected {', '.join(unused)}")
            else:
                absent += [f"{where}{name!r} is in the taxonomy but has no image on disk" for name in unused]
        advice = []
        if unknown:
            advice.append("spell folders and taxonomy alike, or give the set a taxonomy of its own by dataset.taxonomy")
        if absent:
            advice.append("the copy may be incomplete: complete it, or choose whole categories by dataset.categories")
        if advice:
            problems = "; ".join(unknown + absent)
            raise DataError(f"taxonomy {self.dataset!r} does not match the folders: {problems} ({'; '.join(advice)})")

    def with_joint(self, joint: Mapping[str, set[str]]) -> "Taxonomy":
        """Returns this taxonomy with types of their own for images of several types.

        Args:
            joint: category -> joined names, in the form of `ImageRecord.defect_type`.

        Raises:
            DataError: if a part is not in the taxonomy.
        """
        return self._with_types(
            lambda name, body: {
                **body.defect_types,
                **{kind: body.type_of(kind) for kind in sorted(joint[name] if name in joint else ())},
            }
        )

    def without(self, types: Mapping[str, Sequence[str]]) -> "Taxonomy":
        """Returns this taxonomy without some types; `types` is category -> their names."""
        return self._with_types(
            lambda name, body: {
                kind: text for kind, text in body.defect_types.items() if name not in types or kind not in types[name]
            }
        )

    def _with_types(self, of: Callable[[str, CategoryTaxonomy], dict[str, DefectType]]) -> "Taxonomy":
        categories = {name: replace(body, defect_types=of(name, body)) for name, body in self.categories.items()}
        return replace(self, categories=categories)

    def fitted(self, found: Mapping[str, set[str]]) -> "Taxonomy":
        """Returns this taxonomy without the optional types that are not on disk, after comparing as `validate` does.

        Args:
            found: as for `validate`. Categories that are not in it stay whole.

        Raises:
            DataError: as `validate`.
        """
        self.validate(found)
        return self._with_types(
            lambda name, body: _present(body.defect_types, found[name]) if name in found else dict(body.defect_types)
        )


def _present(kinds: Mapping[str, DefectType], types: set[str]) -> dict[str, DefectType]:
    return {name: kind for name, kind in kinds.items() if name in types or not kind.optional}


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    return f"{what} is on disk but not in the taxonomy{_did_you_mean(name, known)}"


def _did_you_mean(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def read_taxonomy(path: Path) -> Taxonomy:
    """Reads a taxonomy JSON file.

    Raises:
        DataError: if the file is absent, is not JSON, has another schema version; if a field is missing, unknown or
            of another kind; or if two names of one category could be taken for each other.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"taxonomy {path} cannot be read: {error}") from error
    where = f"taxonomy {path}"
    version = _field(content, "schema_version", int, where=where)
    if version != TAXONOMY_SCHEMA_VERSION:
        raise DataError(
            f"{where}: schema version {version}, expected {TAXONOMY_SCHEMA_VERSION}; the form is in data/README.md"
        )
    _no_other_fields(content, ("schema_version", "dataset", "categories"), where=where)
    categories = _field(content, "categories", dict, where=where)
    return Taxonomy(
        dataset=_field(content, "dataset", str, where=where),
        categories={name: _read_category(body, where=f"{where}: {name}") for name, body in categories.items()},
    )


def _read_category(body: object, *, where: str) -> CategoryTaxonomy:
    types = _field(body, "defect_types", dict, where=where)
    _no_other_fields(body, ("noun", "normal_description", "defect_types"), where=where)
    category = CategoryTaxonomy(
        noun=_field(body, "noun", str, where=where),
        normal_description=_field(body, "normal_description", str, where=where),
        defect_types={
            name: _read_type(entry, where=f"{where}/{name}")
            for name, entry in types.items()
            if name != NORMAL_DEFECT_TYPE
        },
    )
    for name in category.defect_types:
        if not name or TYPE_JOINER in name:
            raise DataError(f"{where}: defect type {name!r} is not one type; list types without {TYPE_JOINER!r}")
    _check_names(category.defect_types, where=where)
    return category


def _read_type(body: object, *, where: str) -> DefectType:
    synonyms = _field(body, "synonyms", list, where=where)
    if not all(isinstance(word, str) for word in synonyms):
        raise DataError(f"{where}: synonyms {synonyms} are not all text")
    _no_other_fields(body, ("display_name", "description", "synonyms", "orientation_matters", "optional"), where=where)
    return DefectType(
        display_name=_field(body, "display_name", str, where=where),
        description=_field(body, "description", str, where=where),
        synonyms=tuple(synonyms),
        orientation_matters=_field(body, "orientation_matters", bool, where=where),
        optional=isinstance(body, dict) and "optional" in body and _field(body, "optional", bool, where=where),
    )


def _field(body: object, name: str, kind: type[Value], *, where: str) -> Value:
    if not isinstance(body, dict) or name not in body:
        raise DataError(f"{where}: field {name!r} is missing")
    value = body[name]
    if type(value) is not kind:  # isinstance would take true for an int
        raise DataError(f"{where}: field {name!r} is {value!r}, expected {kind.__name__}")
    return value


def _no_other_fields(body: object, known: Collection[str], *, where: str) -> None:
    assert isinstance(body, dict), body
    for name in body:
        if name not in known:
            raise DataError(f"{where}: unknown field {name!r}{_did_you_mean(name, known)}; known: {', '.join(known)}")


def _check_names(kinds: Mapping[str, DefectType], *, where: str) -> None:
    """Refuses names of one category that read alike: an answer must mean one type."""
    owners = {_as_read(text): f"the option {text!r}" for text in (NO_DEFECT_OPTION, NONE_OF_THESE_OPTION)}
    named = [(f"display name of {name!r}", kind.display_name) for name, kind in kinds.items()]
    named += [(f"synonym of {name!r}", word) for name, kind in kinds.items() for word in kind.synonyms]
    for owner, text in named:
        read = _as_read(text)
        if not read:
            raise DataError(f"{where}: {owner} is empty")
        if read in owners:
            raise DataError(f"{where}: {text!r}, {owner}, reads the same as {owners[read]}; choose another")
        owners[read] = f"the {owner}"


def _as_read(text: str) -> str:
    """Returns text as answers are compared: without outer blanks, case and one trailing full stop."""
    return text.strip().lower().removesuffix(".").rstrip()


def derive_taxonomy(dataset: str, found: Mapping[str, set[str]]) -> Taxonomy:
    """Makes a taxonomy from folder names alone, for datasets that bring none.

    Underscores and hyphens become spaces; descriptions are empty, no synonyms are known, and orientation is taken not
    to matter.
    """

    def readable(name: str) -> str:
        return name.replace("_", " ").replace("-", " ").lower()

    def derived(name: str) -> DefectType:
        return DefectType(display_name=readable(name), description="", synonyms=(), orientation_matters=False)

    return Taxonomy(
        dataset=dataset,
        categories={
            category: CategoryTaxonomy(
                noun=readable(category),
                normal_description="",
                defect_types={name: derived(name) for name in sorted(types)},
            )
            for category, types in found.items()
        },
    )
