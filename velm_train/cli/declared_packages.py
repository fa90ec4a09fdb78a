"""The project's declared requirements in, what of them is installed here out."""

import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageStatus:
    """One declared requirement.

    Attributes:
        extra: the extra that brings it, or None for the core.
        version: installed version, or None if absent.
        allowed: the declared version range.
        fits: True if the installed version lies in the range.
    """

    name: str
    extra: str | None
    version: str | None
    allowed: str
    fits: bool

    @property
    def remedy(self) -> str:
        """The command that brings it."""
        target = "." if self.extra is None else f"'.[{self.extra}]'"
        return f"pip install -c constraints.txt -e {target}"


def declared_packages() -> tuple[PackageStatus, ...]:
    """Returns every requirement that pyproject.toml, or else the installed package, declares, core first."""
    declared = _from_pyproject() if _PYPROJECT.is_file() else _from_metadata()
    return tuple(_package(extra, requirement) for extra, requirement in declared)


def _from_pyproject() -> list[tuple[str | None, Requirement]]:
    project = tomllib.loads(_PYPROJECT.read_text())["project"]
    core = [(None, Requirement(text)) for text in project["dependencies"]]
    return core + [
        (extra, Requirement(text)) for extra, texts in project["optional-dependencies"].items() for text in texts
    ]


def _from_metadata() -> list[tuple[str | None, Requirement]]:
    requirements = [Requirement(text) for text in metadata.requires("velm_train") or []]
    extras = metadata.metadata("velm_train").get_all("Provides-Extra") or []
    core = [(None, requirement) for requirement in requirements if _applies(requirement, extra="")]
    return core + [
        (extra, requirement)
        for extra in extras
        for requirement in requirements
        if _applies(requirement, extra=extra) and not _applies(requirement, extra="")
    ]


def _applies(requirement: Requirement, *, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _package(extra: str | None, requirement: Requirement) -> PackageStatus:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        version = None
    fits = version is not None and requirement.specifier.contains(version, prereleases=True)
    return PackageStatus(
        name=requirement.name, extra=extra, version=version, allowed=str(requirement.specifier), fits=fits
    )
