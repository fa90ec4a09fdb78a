"""What a finished run leaves for later pictures: `system.json`, which names everything that judging them needs.

gates.json, split.json, adapter/, config.yaml     lie beside it
system.json                                       taxonomy, fitted detectors by their artefacts, references
references/<category>/                            normal pictures, where questions show one
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from velm_train.cli.build_model import question_views
from velm_train.cli.prepare import Looked, Prepared
from velm_train.cli.workshop import Workshop
from velm_train.core.artifacts import write_atomic
from velm_train.core.errors import ArtifactError, DataError, ResourceError
from velm_train.core.plain import read_record
from velm_train.core.records import ImageRecord, SizeHW
from velm_train.core.taxonomy import CategoryTaxonomy, DefectType, Taxonomy

SYSTEM_NAME = "system.json"
SYSTEM_VERSION = 1
REFERENCES = "references"


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
        taxonomy: closed lists; types that the run keeps unknown are not on them.
    """

    artifacts: str
    adapter_key: str
    taxonomy: Taxonomy
    categories: Mapping[str, CategorySystem]


def write_system(shop: Workshop, prepared: Prepared, looked: Looked, *, adapter_key: str) -> None:
    """Writes system.json, and copies the references that questions show.

    Raises:
        ResourceError: if the run folder cannot be written.
    """
    assert shop.run_folder is not None
    shows_reference = "reference" in question_views(shop.config)
    categories = {
        name: CategorySystem(
            detector_key=found.detector_key,
            references=tuple(
                _copy(record, number, folder=shop.run_folder)
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
        "taxonomy": dataclasses.asdict(prepared.taught),
        "categories": {name: dataclasses.asdict(category) for name, category in categories.items()},
    }
    write_atomic(shop.run_folder / SYSTEM_NAME, json.dumps(body, indent=1, sort_keys=True) + "\n")


def _copy(record: ImageRecord, number: int, *, folder: Path) -> ReferenceFile:
    file = Path(REFERENCES) / record.category / f"{number:03d}{record.image_path.suffix.lower()}"
    try:
        content = record.image_path.read_bytes()
    except OSError as error:
        raise ResourceError(f"reference {record.image_path} cannot be read again: {error.strerror}") from error
    write_atomic(folder / file, content)
    return ReferenceFile(image_id=record.image_id, file=file.as_posix(), sha256=record.sha256, size_hw=record.size_hw)


def read_system(run_folder: Path) -> SystemFile:
    """Reads system.json.

    Raises:
        ArtifactError: if it is absent, damaged or of another version.
    """
    path = run_folder / SYSTEM_NAME
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        version = body.pop("schema_version", None) if isinstance(body, dict) else None
        if version != SYSTEM_VERSION:
            raise ArtifactError(f"{path}: schema version {version}, expected {SYSTEM_VERSION}; run again")
        return SystemFile(
            artifacts=body["artifacts"],
            adapter_key=body["adapter_key"],
            taxonomy=_taxonomy(body["taxonomy"]),
            categories={name: read_record(CategorySystem, one) for name, one in body["categories"].items()},
        )
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError, DataError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); run again to make it anew") from error


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
