"""The shape of the repository: sizes, names, places, and what no file may hold."""

import ast
import fnmatch
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "velm_train"

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
TOP_LEVEL = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "conf",
    "constraints.txt",
    "data",
    "experiments",
    "pyproject.toml",
    "tests",
    "velm_train",
}
CATCH_ALL_NAMES = {"common", "helper", "helpers", "misc", "util", "utilities", "utils"}
TESTED_ELSEWHERE = {
    ".": "only __main__, which the tests of cli run",
    "instructions/tasks": "one template a file, all covered by tests/instructions",
}
"""Package folders without a test folder of their own, with the reason."""

MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:work|opt|root|home)/\w")
"""An absolute path of one person's machine; a relative path or one after a variable is not meant."""

TEXT_SUFFIXES = {
    "",
    ".cfg",
    ".css",
    ".csv",
    ".html",
    ".j2",
    ".json",
    ".jsonl",
    ".md",
    ".py",
    ".sh",
    ".svg",
    ".toml",
    ".txt",
    ".yaml",
}


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def text_files() -> Iterator[Path]:
    for top in sorted(ROOT.iterdir()):
        if top.name in TOP_LEVEL | {".ci", ".gitignore", ".pre-commit-config.yaml"}:
            files = top.rglob("*") if top.is_dir() else [top]
            yield from (path for path in files if path.is_file() and path.suffix in TEXT_SUFFIXES)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


SOURCES = python_files(PACKAGE, ROOT / "tests")


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_files_are_short_enough_to_read() -> None:
    lengths = {shown(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_are_short_enough_to_read() -> None:
    too_long = [
        f"{shown(path)}: {node.name} has {length} lines"
        for path in SOURCES
        for node in functions(path)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert too_long == []


CALLED_BY_OTHERS = ["velm_train/models/packing/attention.py: _attend(**options)"]
"""An attention function is handed whatever a decoder of transformers passes on, which differs between its versions."""


def test_no_function_swallows_unknown_keywords() -> None:
    swallowing = [
        f"{shown(path)}: {node.name}(**{node.args.kwarg.arg})"
        for path in python_files(PACKAGE)
        for node in functions(path)
        if node.args.kwarg
    ]
    assert swallowing == CALLED_BY_OTHERS


def test_annotations_are_real_objects() -> None:
    trees = {shown(path): ast.walk(ast.parse(path.read_text())) for path in SOURCES}
    futures = [
        name
        for name, nodes in trees.items()
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ]
    assert futures == []


def test_no_catch_all_names() -> None:
    names = [path for top in ("velm_train", "conf", "tests") for path in (ROOT / top).rglob("*")]
    assert [shown(path) for path in names if path.stem.removeprefix("test_") in CATCH_ALL_NAMES] == []


def test_top_level_holds_only_what_the_design_names() -> None:
    lines = (ROOT / ".gitignore").read_text().splitlines()
    ignored = [line.strip("/") for line in lines if line and not line.startswith("#")]
    strangers = [
        path.name
        for path in ROOT.iterdir()
        if path.name not in TOP_LEVEL
        and not path.name.startswith(".")
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    ]
    assert strangers == []


def test_every_package_folder_has_tests() -> None:
    folders = {path.parent for path in python_files(PACKAGE) if path.name != "__init__.py"}
    names = {folder.relative_to(PACKAGE).as_posix() for folder in folders} - set(TESTED_ELSEWHERE)
    assert sorted(name for name in names if not list((ROOT / "tests" / name).glob("test_*.py"))) == []


def test_every_test_folder_mirrors_a_package_folder() -> None:
    tested = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    apart = {Path(), Path("e2e")}
    assert sorted(str(folder) for folder in tested - apart if not (PACKAGE / folder).is_dir()) == []


def test_every_reason_for_missing_tests_is_still_needed() -> None:
    assert [name for name in TESTED_ELSEWHERE if not (PACKAGE / name).is_dir()] == []


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{shown(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("top", ["work", "opt", "root", "home"])
def test_machine_path_is_recognised(top: str) -> None:
    assert MACHINE_PATH.search(f"see '/{top}/x'")
    assert not MACHINE_PATH.search(f"outputs/{top}/x and https://example.org/{top}/x and ~/{top}/x")
