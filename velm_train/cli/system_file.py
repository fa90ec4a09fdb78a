"""What a finished run leaves for later pictures: `system.json`, which names everything that judging them needs.

gates.json, split.json, adapter/, config.yaml     lie beside it
system.json                                       hashes of these, taxonomy, fitted detectors by their artefacts
references/<category>/                            normal pictures, where questions show one
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velm_train.cli.build_model import question_views
from velm_train.cli.calibrate_answers import ANSWERS_FILE
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.run_config import ADAPTER_FOLDER, CONFIG_FILE
from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError, ResourceError
from velm_train.core.hashing import sha256_file, sha256_json
from velm_train.core.plain import read_record
from velm_train.core.records import ImageRecord, SizeHW
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType, Taxonomy
from velm_train.models.weight_files import MANIFEST_NAME

SYSTEM_NAME = "system.json"
SYSTEM_VERSION = 2
REFERENCES = "references"
ADAPTERS = "adapters"
"""Stage of the artefacts that adapters are copied from."""

GATES_FILE = "gates.json"
SPLIT_FILE = "split.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceFile:
    """A normal picture that questions may show.

    Attributes:
        file: below the run folder.
    """

    image_id: str
    file: str
    sha256: str
    size_hw: SizeHW


@dataclass(frozen=True, kw_only=True, slots=True)
class CategorySystem:
    """What judging one category needs.

    Attributes:
        detector_key: of the artefact with the fitted detector.
        references: in the run's order; empty if questions show none.
    """

    detector_key: str
    references: tuple[ReferenceFile, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemFile:
    """The content of system.json.

    Attributes:
        artifacts: folder of finished stages that the run used.
        adapter_key: of the artefact whose copy is the run's adapter.
        adapter_sha256: of the adapter's manifest, which has the hashes of its weights.
        files: name below the run folder -> sha256 of everything else that is read.
        taxonomy: closed lists; types that the run keeps unknown are not on them.
    """

    artifacts: str
    adapter_key: str
    adapter_sha256: str
    files: Mapping[str, str]
    taxonomy: Taxonomy
    categories: Mapping[str, CategorySystem]


def write_system(shop: Workshop, prepared: Prepared, looked: Looked, *, adapter_key: str) -> None:
    """Writes system.json, and copies the references that questions show.

    Raises:
        ResourceError: if the run folder cannot be written.
    """
    assert shop.run_folder is not None
    folder = shop.run_folder
    shows_reference = "reference" in question_views(shop.config)
    categories = {
        name: CategorySystem(
            detector_key=found.detector_key,
            references=tuple(
                _copy(record, number, folder=folder)
                for number, record in enumerate(looked.references[name] if name in looked.references else ())
                if shows_reference
            ),
        )
        for name, found in looked.detections.items()
    }
    body = {
        "schema_version": SYSTEM_VERSION,
        "artifacts": str(shop.store.root.absolute()),
        "adapter_key": adapter_key,
        "adapter_sha256": sha256_file(shop.store.root / ADAPTERS / adapter_key / ADAPTER_FOLDER / MANIFEST_NAME),
        "files": {
            name: sha256_file(folder / name)
            for name in (CONFIG_FILE, GATES_FILE, SPLIT_FILE, ANSWERS_FILE)
            if (folder / name).is_file()
        },
        "taxonomy": dataclasses.asdict(prepared.taught),
        "categories": {name: dataclasses.asdict(category) for name, category in categories.items()},
    }
    sealed = body | {"sha256": sha256_json(body)}
    write_atomic(folder / SYSTEM_NAME, json.dumps(sealed, indent=1, sort_keys=True) + "\n")


def _copy(record: ImageRecord, number: int, *, folder: Path) -> ReferenceFile:
    file = Path(REFERENCES) / record.category / f"{number:03d}{record.image_path.suffix.lower()}"
    try:
        content = record.image_path.read_bytes()
    except OSError as error:
        raise ResourceError(f"reference {record.image_path} cannot be read again: {error.strerror}") from error
    write_atomic(folder / file, content)
    return ReferenceFile(image_id=record.image_id, file=file.as_posix(), sha256=record.sha256, size_hw=record.size_hw)


def read_system(run_folder: Path) -> SystemFile:
    """Reads system.json and compares every file it names with its hash; the adapter is left to whoever loads it.

    Raises:
        ArtifactError: if it is absent, damaged or of another version, or a file was changed after the run.
    """
    path = run_folder / SYSTEM_NAME
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        version = body["schema_version"] if isinstance(body, dict) and "schema_version" in body else None
        if version != SYSTEM_VERSION:
            raise ArtifactError(f"{path}: schema version {version}, expected {SYSTEM_VERSION}; run again")
        if body.pop("sha256") != sha256_json(body):
            raise ArtifactError(changed(path))
        system = SystemFile(
            artifacts=body["artifacts"],
            adapter_key=body["adapter_key"],
            adapter_sha256=body["adapter_sha256"],
            files=body["files"],
            taxonomy=_taxonomy(body["taxonomy"]),
            categories={name: read_record(CategorySystem, one) for name, one in body["categories"].items()},
        )
        _require_unchanged(run_folder, system)
        return system
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError, DataError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); run again to make it anew") from error


def changed(path: Path) -> str:
    """Returns what is said about a file of a run that is no longer what the run left."""
    return f"{path} was changed after the run: its hash is another one; restore it, or run again to make it anew"


def _require_unchanged(run_folder: Path, system: SystemFile) -> None:
    references = {one.file: one.sha256 for category in system.categories.values() for one in category.references}
    for name, sha256 in {**system.files, **references}.items():
        path = run_folder / name
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; restore it, or run again to make it anew")
        if sha256_file(path) != sha256:
            raise ArtifactError(changed(path))


def _taxonomy(body: dict[str, Any]) -> Taxonomy:
    return Taxonomy(
        dataset=body["dataset"],
        categories={
            name: CategoryTaxonomy(
                noun=one["noun"],
                normal_description=one["normal_description"],
                defect_types={
                    kind: DefectType(**{**facts, "synonyms": tuple(facts["synonyms"])})
                    for kind, facts in one["defect_types"].items()
                },
            )
            for name, one in body["categories"].items()
        },
    )
