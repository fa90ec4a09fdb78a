"""Every shipped experiment's settings become objects, whatever its data is."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from velm_train.assets.library import AssetLibrary
from velm_train.cli.build_data import config_hash, datasets_of, joint_taxonomy, label_sets, make_manifest, make_taxonomy
from velm_train.cli.build_detector import make_backbone_views, make_detector
from velm_train.cli.build_engine import make_engine
from velm_train.cli.build_model import (
    adapter_optimisation,
    alignment_optimisation,
    make_model,
    make_renderer,
    option_sampling,
    question_views,
    task_mix,
    wording,
)
from velm_train.cli.compose import experiment_names, load_config
from velm_train.cli.read_data import read_records
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.errors import ConfigError
from velm_train.core.progress import SilentProgress
from velm_train.detectors.patchcore import PatchCore


def test_backbone_of_the_gate_is_read_where_it_is_no_tower_of_the_model(assets: AssetLibrary) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    views = make_backbone_views(load_config(["model=tiny_internvl"]), assets=assets)
    assert views is not None
    assert views.encode_views([picture]).final.shape == (1, 14 * 17, 384)
    assert (
        make_backbone_views(load_config(["model=tiny_internvl", "detector.layers=[block9]"]), assets=assets) is not None
    )
    assert make_backbone_views(load_config([]), assets=assets) is None
    assert make_backbone_views(
        load_config(["detector.backbone=timm/resnet18@random", "detector.layers=[stage2]"]), assets=assets
    )
    without = load_config(["model=tiny_internvl", "detector=maps", "detector.maps.folder=maps"])
    assert make_backbone_views(without, assets=assets) is None


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_builds(name: str, assets: AssetLibrary) -> None:
    config = load_config([f"experiment={name}"])
    detector = make_detector(config, assets=assets)()
    assert isinstance(detector, PatchCore)
    assert detector.settings_hash
    assert set(task_mix(config).tasks) <= set(config.instructions.tasks)
    assert option_sampling(config).min_options == config.instructions.min_options
    assert wording(config).with_descriptions == config.instructions.with_descriptions
    assert question_views(config)
    assert set(alignment_optimisation(config).learning_rates) == {"projector", "look_twice"}
    assert set(adapter_optimisation(config).learning_rates) == {"lora", "projector", "look_twice"}
    assert make_engine(config).accelerator == "cpu"
    model = make_model(config, assets=assets)
    renderer = make_renderer(model, assets=assets)
    assert (renderer.num_first_look, renderer.num_second_look) == (model.num_first_look, model.num_second_look)


def test_textile_set_has_roles_and_names(assets: AssetLibrary, tmp_path: Path) -> None:
    config = load_config(["experiment=textile"])
    store = ArtifactStore(tmp_path, progress=SilentProgress())
    records = read_records(config.dataset, assets=assets, store=store, progress=SilentProgress()).records
    taxonomy = make_taxonomy(config.dataset, records)
    manifest = make_manifest(config, records=records)
    roles = [entry.role for entry in manifest.entries if entry.defect_type == "local"]
    assert roles.count("train") == config.protocol.k_shot
    assert roles.count("test") == config.protocol.max_test_per_type
    assert label_sets(taxonomy, records) == {"textile": ["global", "local"]}


def test_folders_and_task_are_no_part_of_the_configuration_hash() -> None:
    plain = config_hash(load_config([]))
    assert plain == config_hash(load_config(["paths.outputs=elsewhere", "task=detect"]))
    assert plain != config_hash(load_config(["seed=1"]))


def put_pictures(folder: Path, types: dict[str, int]) -> None:
    for number, (kind, value) in enumerate((kind, value) for kind, size in types.items() for value in range(size)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        pixels = np.full((6, 9, 3), 20 + 3 * number, dtype=np.uint8)
        pixels[0, 0] = len(folder.name)
        Image.fromarray(pixels).save(folder / kind / f"{value}.png")


def test_cross_dataset_reads_both_sets_and_names_the_types_of_both(tmp_path: Path) -> None:
    put_pictures(tmp_path / "one" / "bolt", {"good": 6, "bent": 3})
    put_pictures(tmp_path / "other" / "washer", {"good": 6, "rust": 4})
    words = ["dataset=generic_folder", "dataset.name=tested", f"dataset.root={tmp_path / 'other'}"]
    words += ["protocol=cross_dataset", "protocol.train_dataset=generic_folder"]
    config = load_config([*words, f"protocol.train_root={tmp_path / 'one'}"])
    silent = SilentProgress()
    store, library = ArtifactStore(tmp_path / "artifacts", progress=silent), AssetLibrary(tmp_path, progress=silent)
    datasets = datasets_of(config)
    assert [one.name for one in datasets] == ["tested", "custom"]
    records = [
        record for one in datasets for record in read_records(one, assets=library, store=store, progress=silent).records
    ]
    taxonomy = joint_taxonomy(datasets, records)
    assert {name: list(body.defect_types) for name, body in taxonomy.categories.items()} == {
        "bolt": ["bent"],
        "washer": ["rust"],
    }
    manifest = make_manifest(config, records=records)
    assert manifest.unseen_categories == ("washer",)
    assert Counter((e.defect_type, e.role) for e in manifest.entries if e.defect_type != "good") == {
        ("bent", "train"): 3,
        ("rust", "test"): 4,
    }


def test_two_data_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    words = ["dataset=generic_folder", f"dataset.root={tmp_path}", "protocol=cross_dataset"]
    config = load_config([*words, "protocol.train_dataset=generic_folder", f"protocol.train_root={tmp_path}"])
    with pytest.raises(ConfigError, match=r"dataset\.name=custom is not possible"):
        datasets_of(config)
