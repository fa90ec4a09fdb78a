"""What the README files say about paths, commands, tasks and extras is true."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from velm_train.assets.registry import PINS
from velm_train.cli.compose import load_config

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "velm_train" / "README.md",
    ROOT / "experiments" / "README.md",
    ROOT / "experiments" / "CLUSTER.md",
    *sorted((ROOT / "data").rglob("README.md")),
    *sorted((ROOT / "experiments" / "decisions").glob("*.md")),
]
TOP_FOLDERS = ("conf/", "velm_train/", "data/", "experiments/", "tests/", ".ci/")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
SETTING = re.compile(r"(?!hydra)[a-z_]+(?:\.[a-z_]+)*=[\w.-]+")
PLACEHOLDER = re.compile(r"[<*{]|\.\.\.")


MAX_PICTURE_BYTES = 300_000


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_of(document: Path) -> Iterator[str]:
    """Yields every code span and every line of every code block."""
    text = document.read_text()
    for block in FENCE.findall(text):
        yield from block.splitlines()
    yield from CODE.findall(FENCE.sub("", text))


def commands_of(document: Path) -> Iterator[str]:
    """Yields the single shell commands, joined ones apart."""
    for code in code_of(document):
        yield from (part.strip() for part in code.split("&&"))


def program_commands() -> list[str]:
    found = [command for document in DOCUMENTS for command in commands_of(document)]
    return sorted({command for command in found if "python -m velm_train" in command})


def overrides_of(command: str) -> list[str]:
    """Returns the settings of a command, the first value of every sweep, without flags and Hydra's own keys."""
    words = shlex.split(command)[shlex.split(command).index("velm_train") + 1 :]
    settings = [word for word in words if "=" in word and not word.startswith(("-", "hydra"))]
    return [word.split(",")[0] if "--multirun" in words and "[" not in word else word for word in settings]


def setting_words() -> list[str]:
    """Returns the settings of every code span that holds nothing else, such as `gate.policy=oracle`."""
    spans = {tuple(code.split()) for document in DOCUMENTS for code in code_of(document)}
    return sorted({word for words in spans if all(map(SETTING.fullmatch, words)) for word in words})


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_links_lead_somewhere(document: Path) -> None:
    dead = [target for target in LINK.findall(document.read_text()) if not (document.parent / target).exists()]
    assert dead == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_named_paths_exist(document: Path) -> None:
    named = [code for code in code_of(document) if code.startswith(TOP_FOLDERS) and not PLACEHOLDER.search(code)]
    made_by_runs = {"data/raw", "data/derived", "experiments/runs"}
    missing = [path for path in named if path not in made_by_runs and not (ROOT / path.split()[0]).exists()]
    assert missing == []


def test_map_names_every_folder_of_the_package() -> None:
    text = (ROOT / "velm_train" / "README.md").read_text()
    folders = sorted(path.parent.name for path in (ROOT / "velm_train").glob("*/__init__.py"))
    assert [folder for folder in folders if f"\n| `{folder}/` |" not in text] == []


@pytest.mark.parametrize("package", ["cli", "pipeline"])
def test_map_names_every_step_of_the_road(package: str) -> None:
    text = (ROOT / "velm_train" / "README.md").read_text()
    steps = sorted(f"{package}/{path.name}" for path in (ROOT / "velm_train" / package).glob("[a-z]*.py"))
    assert [step for step in steps if f"`{step}`" not in text] == []


def test_map_names_no_folder_that_is_gone() -> None:
    text = (ROOT / "velm_train" / "README.md").read_text()
    named = re.findall(r"`([a-z_]+(?:/[a-z_]+)*/(?:[a-z_0-9]+\.py)?)`", text)
    places = (ROOT, ROOT / "velm_train")
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_settings_are_found_to_be_checked() -> None:
    assert {"gate.policy=detector", "trainer=gpu", "model.dtype=float32"} <= set(setting_words())


@pytest.mark.parametrize("word", setting_words())
def test_named_setting_composes(word: str) -> None:
    assert load_config([word]).name


@pytest.mark.parametrize("command", program_commands())
def test_program_command_composes(command: str) -> None:
    config = load_config(overrides_of(command))
    assert config.task.name


def test_every_task_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    tasks = sorted(path.stem for path in (ROOT / "conf" / "task").glob("*.yaml"))
    assert [task for task in tasks if f"task={task}" not in text] == []


def test_every_experiment_has_its_question() -> None:
    text = (ROOT / "experiments" / "README.md").read_text()
    experiments = sorted(
        path.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf/experiment").rglob("*.yaml")
    )
    assert [name for name in experiments if name.removesuffix(".yaml").replace("/", "=", 1) not in text] == []


@pytest.mark.parametrize("path", sorted((ROOT / "conf/experiment").rglob("*.yaml")), ids=shown)
def test_experiment_opens_with_its_question_and_a_command_that_composes(path: Path) -> None:
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert comments[1].startswith("# Question: ")
    (command,) = [line.removeprefix("# Command: ") for line in comments if line.startswith("# Command: ")]
    assert load_config(overrides_of(command)).name == path.stem


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_named_poe_tasks_exist(document: Path) -> None:
    named = {
        match.group(1) for command in commands_of(document) if (match := re.match(r"(?:\S*/)?poe ([a-z-]+)", command))
    }
    assert named <= set(PYPROJECT["tool"]["poe"]["tasks"])


def test_every_poe_task_is_explained() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert [task for task in PYPROJECT["tool"]["poe"]["tasks"] if f"| `poe {task}` |" not in text] == []


def test_extras_are_those_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    extras = set(PYPROJECT["project"]["optional-dependencies"])
    asked_for = {extra for group in re.findall(r"'\.\[([a-z,]+)\]'", text) for extra in group.split(",")}
    assert asked_for <= extras
    assert [extra for extra in sorted(extras) if f"| `{extra}` |" not in text] == []


def test_licence_table_is_that_of_the_pinned_assets() -> None:
    text = (ROOT / "README.md").read_text()
    rows = [f"| `{pin.name}` | {pin.source.replace('==', ' ')} | {pin.licence} |" for pin in PINS.values()]
    assert [row for row in rows if row not in text] == []


@pytest.mark.parametrize("last", ["-m velm_train", "poe test"])
def test_continuous_integration_runs_the_commands_of_the_readme(last: str) -> None:
    (command,) = [code for code in code_of(ROOT / "README.md") if " && " in code and code.endswith(last)]
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    install, _, then = command.rpartition(" && ")
    assert install in lines
    assert [line for line in lines if line.startswith(then)] != []


def test_no_document_is_left_with_a_gap() -> None:
    documents = [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "experiments" / "LOG.md"]
    assert [shown(path) for path in documents if "<<" in path.read_text()] == []


def test_pictures_are_small_and_all_shown() -> None:
    pictures = sorted((ROOT / "experiments" / "pictures").iterdir())
    assert [path.name for path in pictures if path.stat().st_size > MAX_PICTURE_BYTES] == []
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in pictures if f"](experiments/pictures/{path.name})" not in text] == []


@pytest.mark.parametrize("number", range(1, len(list((ROOT / "experiments" / "decisions").glob("*.md"))) + 1))
def test_decisions_are_numbered_without_gaps(number: int) -> None:
    (decision,) = (ROOT / "experiments" / "decisions").glob(f"{number:04d}-*.md")
    text = decision.read_text()
    assert text.startswith(f"# {number:04d} ")
    for part in ("Context", "Choice", "Consequences", "What would change our mind"):
        assert f"**{part}.**" in text, part
    assert decision.name in (ROOT / "experiments" / "README.md").read_text()
