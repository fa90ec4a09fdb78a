"""Published splits on disk: who plays which role, by category, class and number; JSON files in, `SplitFile`s out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import DataError
from velm_train.core.hashing import sha256_json
from velm_train.core.records import Role
from velm_train.datasets.reading import nearest

SPLIT_SCHEMA_VERSION = 1
CLASSES_SCHEMA_VERSION = 1

LEFT_OUT = "left_out"
"""Stands in a split file where a role would be, for images that the protocol gives none."""

Numbers = Mapping[str, Mapping[str, tuple[int, ...]]]
"""Category -> class, "good" among them for the normal test images -> numbers of the images."""

RoleNumbers = Mapping[str, Mapping[str, Mapping[str, tuple[int, ...]]]]
"""Category -> class -> role or LEFT_OUT -> numbers of the images."""

_PACKAGE = Path(__file__).resolve().parents[1]
_FOLDERS = (_PACKAGE.parent / "data" / "splits", _PACKAGE / "splits")
"""In a source checkout, and inside an installed wheel."""

_CLASSES_SUFFIX = "_classes.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFile:
    """One published split; training normals are not in it, because their roles follow from the run's settings.

    Attributes:
        name: data set and split, such as "visa_ac/p1_k4_seed0".
        protocol: what made it, a key of PROTOCOLS.
        seed: root seed of the selection, also of the training normals' roles.
        settings: what the protocol was told beside the seed.
        datasets: names of the data sets.
        unseen_categories: categories of which no defect is trained on.
        unknown_types: category -> types of a seen category that are never trained on.
        images: every defect and every normal test image.
    """

    name: str
    protocol: str
    seed: int
    settings: Mapping[str, Any]
    datasets: tuple[str, ...]
    unseen_categories: tuple[str, ...]
    unknown_types: Mapping[str, tuple[str, ...]]
    images: RoleNumbers

    @property
    def sha256(self) -> str:
        """The hash of the whole content."""
        return sha256_json(self._content())

    def _content(self) -> dict[str, Any]:
        return {
            "schema_version": SPLIT_SCHEMA_VERSION,
            "name": self.name,
            "protocol": self.protocol,
            "seed": self.seed,
            "settings": dict(self.settings),
            "datasets": list(self.datasets),
            "unseen_categories": list(self.unseen_categories),
            "unknown_types": {category: list(types) for category, types in self.unknown_types.items()},
            "images": {
                category: {
                    kind: {role: list(numbers) for role, numbers in roles.items()} for kind, roles in body.items()
                }
                for category, body in self.images.items()
            },
        }

    def save(self, path: Path) -> None:
        """Writes the file with one line a class, so that a change is one line of a diff."""
        content = self._content()
        images = content.pop("images")
        head = [f" {json.dumps(name)}: {json.dumps(value, sort_keys=True)},\n" for name, value in content.items()]
        categories = [
            f"  {json.dumps(category)}: {{\n"
            + ",\n".join(_class_line(kind, body[kind]) for kind in sorted(body))
            + "\n  }"
            for category, body in sorted(images.items())
        ]
        write_atomic(path, "{\n" + "".join(head) + ' "images": {\n' + ",\n".join(categories) + "\n }\n}\n")


def _class_line(kind: str, roles: Mapping[str, list[int]]) -> str:
    return f"   {json.dumps(kind)}: {json.dumps(roles, sort_keys=True, separators=(',', ':'))}"


def split_names() -> tuple[str, ...]:
    """Returns the published splits in alphabetical order."""
    files = {path.relative_to(folder).with_suffix("") for folder in _FOLDERS for path in folder.glob("*/*.json")}
    return tuple(sorted(file.as_posix() for file in files))


def split_path(name: str) -> Path:
    """Returns the file of a published split.

    Raises:
        DataError: if there is none of that name, with the nearest spelling.
    """
    known = split_names()
    if name not in known:
        hint = nearest(name, known)
        dataset = name.split("/", maxsplit=1)[0]
        own = [other for other in known if other.startswith(f"{dataset}/")]
        others = sorted({f"{other.split('/', maxsplit=1)[0]}/..." for other in known})
        raise DataError(f"no published split {name!r}{hint or '; known: ' + ', '.join(own or others)}")
    return next(path for folder in _FOLDERS if (path := folder / f"{name}.json").is_file())


def read_split(path: Path) -> SplitFile:
    """Reads a published split.

    Raises:
        DataError: if the file is absent, damaged, or of another schema version.
    """
    content = _read_json(path, version=SPLIT_SCHEMA_VERSION)
    allowed = {*get_args(Role), LEFT_OUT}
    try:
        images = {
            category: {kind: {role: tuple(numbers) for role, numbers in roles.items()} for kind, roles in body.items()}
            for category, body in content["images"].items()
        }
        split = SplitFile(
            name=content["name"],
            protocol=content["protocol"],
            seed=content["seed"],
            settings=content["settings"],
            datasets=tuple(content["datasets"]),
            unseen_categories=tuple(content["unseen_categories"]),
            unknown_types={category: tuple(types) for category, types in content["unknown_types"].items()},
            images=images,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"split file {path} is damaged ({error!r}); restore it") from error
    strange = sorted({role for body in images.values() for roles in body.values() for role in roles} - allowed)
    if strange:
        raise DataError(f"split file {path}: role {strange[0]!r} is unknown; allowed: {', '.join(sorted(allowed))}")
    return split


def read_classes(dataset: str) -> Numbers:
    """Reads the list of a public data set's images, which comes with the package.

    Raises:
        DataError: if there is none for this data set, or it is damaged.
    """
    name = f"{dataset}{_CLASSES_SUFFIX}"
    for folder in _FOLDERS:
        path = folder / name
        if path.is_file():
            content = _read_json(path, version=CLASSES_SCHEMA_VERSION)
            return {
                category: {kind: tuple(numbers) for kind, numbers in body.items()}
                for category, body in content["categories"].items()
            }
    known = sorted({path.name.removesuffix(_CLASSES_SUFFIX) for folder in _FOLDERS for path in folder.glob("*.json")})
    raise DataError(f"no list of classes for data set {dataset!r}{nearest(dataset, known)}; known: {', '.join(known)}")


def _read_json(path: Path, *, version: int) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("schema_version") != version:
        raise DataError(f"{path} has not schema version {version}; restore it")
    return content
