"""The verbs: what `task=...` does, from fetching assets to a finished report."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from velm_train.assets.registry import ASSET_NAMES
from velm_train.backbones.load import BACKBONE_NAMES
from velm_train.cli.audit_task import audit_task
from velm_train.cli.build_engine import take_device
from velm_train.cli.build_model import require_machine
from velm_train.cli.checkpoints import find_start
from velm_train.cli.compare import compare_task
from velm_train.cli.compose import experiment_names, load_config, resolved_yaml
from velm_train.cli.doctor import ExperimentNeeds, collect_doctor_report
from velm_train.cli.doctor_view import render_doctor_report
from velm_train.cli.examine import examine
from velm_train.cli.export_model import export_model
from velm_train.cli.export_samples import export
from velm_train.cli.gate_card import publish_gate_card
from velm_train.cli.instruct import instruct
from velm_train.cli.objective import pruned_runs_end_well, publish_objective, require_objective
from velm_train.cli.predict import predict
from velm_train.cli.prepare import look_at, prepare
from velm_train.cli.preview import preview_data
from velm_train.cli.publish import publish
from velm_train.cli.score import score_predictions
from velm_train.cli.synthesise import synthesise_defects
from velm_train.cli.system_file import write_system
from velm_train.cli.teach import teach
from velm_train.cli.tracking import logged
from velm_train.cli.workshop import Workshop, open_workshop
from velm_train.config import Config
from velm_train.core.artifacts import write_atomic
from velm_train.core.ranks import ONLY_RANK, Rank
from velm_train.models.build import quiet_transformers

MODEL_ASSETS = ("smollm2_135m_instruct", "efficientnet_lite0", "dinov2_small")
READER_ASSETS = {"textures": ("material_photos",), "textile": ("textile_images",)}


def run_task(config: Config, *, run_folder: Path | None, rank: Rank = ONLY_RANK) -> None:
    """Does what `config.task.name` says, or this process's part of it.

    Args:
        config: checked settings.
        run_folder: where a run leaves its files, and each process of several its own; None for tasks that leave none.
        rank: this process.

    Raises:
        VelmError: for anything the user can mend.
    """
    take_device(config, rank)
    quiet_transformers()
    shop = open_workshop(config, run_folder=run_folder, rank=rank)
    if run_folder is not None:
        write_atomic(run_folder / "config.yaml", resolved_yaml(config))
    TASKS[config.task.name](shop)


def _fetch(shop: Workshop) -> None:
    for name in ASSET_NAMES:
        shop.assets.ensure(name)
    shop.progress.note(f"all assets are in {shop.config.paths.assets}")


def required_assets(config: Config) -> tuple[str, ...]:
    """Returns the embedded assets that an experiment reads."""
    embedded = {config.detector.backbone} & set(BACKBONE_NAMES)
    model = () if config.model.embedded is None else MODEL_ASSETS
    return tuple(sorted({*model, *embedded, *READER_ASSETS.get(config.dataset.reader, ())}))


def required_checkpoints(config: Config) -> tuple[str, ...]:
    """Returns the hub ids of the models that an experiment loads."""
    path = None if config.model.hub is None else config.model.hub.path
    return () if path is None or Path(path).expanduser().is_dir() else (path,)


def _doctor(shop: Workshop) -> None:
    paths = asdict(shop.config.paths)
    needs = {}
    for name in experiment_names():
        config = load_config([f"experiment={name}"])
        root = config.dataset.root
        embedded = config.dataset.reader in READER_ASSETS
        folders = {} if embedded else {"dataset.root": Path(root) if root else None}
        needs[name] = ExperimentNeeds(
            assets=required_assets(config), folders=folders, hub_ids=required_checkpoints(config)
        )
    report = collect_doctor_report(
        folders={f"paths.{name}": Path(folder).expanduser() for name, folder in paths.items()},
        assets=shop.assets.status(),
        experiments=needs,
    )
    shop.console.print(render_doctor_report(report))


def _detect(shop: Workshop) -> None:
    prepared = prepare(shop)
    publish_gate_card(shop, prepared, look_at(shop, prepared))
    shop.console.print(f"gates and split: {shop.run_folder}", highlight=False)


def _instruct(shop: Workshop) -> None:
    prepared = prepare(shop)
    export(shop, instruct(shop, prepared, look_at(shop, prepared)))


def _train(shop: Workshop) -> None:
    _road(shop, evaluate=False)


def _run(shop: Workshop) -> None:
    _road(shop, evaluate=True)


def _road(shop: Workshop, *, evaluate: bool) -> None:
    """Trains, and with `evaluate` scores and reports; the loggers are closed whatever happens."""
    require_machine(shop.config)
    find_start(shop.config)  # a wrong path is refused before anything is computed
    prepared = prepare(shop)
    if evaluate:
        require_objective(shop, prepared)
    looked = look_at(shop, prepared)
    material = instruct(shop, prepared, looked)
    with pruned_runs_end_well(shop), logged(shop) as loggers:
        taught = teach(shop, prepared, looked, material, loggers=loggers)
        write_system(shop, prepared, looked, adapter_key=taught.adapter_key)
        examined = examine(shop, prepared, looked, material, taught) if evaluate else None
        if examined is not None:
            publish(shop, prepared, looked, material, taught, examined, loggers=loggers)
            publish_objective(shop, examined.scoreboard.rows[0].scores)
        if not evaluate:
            shop.console.print(f"adapter: {taught.adapter_folder}", highlight=False)


TASKS: dict[str, Callable[[Workshop], None]] = {
    "run": _run,
    "train": _train,
    "instruct": _instruct,
    "detect": _detect,
    "preview": preview_data,
    "audit": audit_task,
    "compare": compare_task,
    "score": score_predictions,
    "predict": predict,
    "export": export_model,
    "synthesise": synthesise_defects,
    "fetch": _fetch,
    "doctor": _doctor,
}
"""What is done with a workshop; what `launch.look_after` does needs none."""
