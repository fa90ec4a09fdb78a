"""Every shipped experiment's settings become objects, whatever its data is."""

from pathlib import Path

import pytest

from velm_train.assets.library import AssetLibrary
from velm_train.cli.build_data import config_hash, label_sets, make_detector, make_manifest, make_taxonomy, read_records
from velm_train.cli.build_model import (
    adapter_optimisation,
    alignment_optimisation,
    make_engine,
    make_model,
    make_renderer,
    option_sampling,
    question_views,
    task_mix,
    wording,
)
from velm_train.cli.compose import experiment_names, load_config
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.progress import SilentProgress
from velm_train.detectors.patchcore import PatchCore


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
    records = read_records(config.dataset, assets=assets, store=store, progress=SilentProgress())
    taxonomy = make_taxonomy(config.dataset, records)
    manifest = make_manifest(config.protocol, records=records, unseen=(), seed=config.seed)
    roles = [entry.role for entry in manifest.entries if entry.defect_type == "local"]
    assert roles.count("train") == config.protocol.k_shot
    assert roles.count("test") == config.protocol.max_test_per_type
    assert label_sets(taxonomy, records) == {"textile": ["global", "local"]}


def test_folders_and_task_are_no_part_of_the_configuration_hash() -> None:
    plain = config_hash(load_config([]))
    assert plain == config_hash(load_config(["paths.outputs=elsewhere", "task=detect"]))
    assert plain != config_hash(load_config(["seed=1"]))
