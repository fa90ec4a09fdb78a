"""A finished run's folder in, a ready inspector out; what is missing is named with the way to make it again."""

import dataclasses
import json
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from velm_train.cli.build_detector import make_detector
from velm_train.cli.build_engine import make_device
from velm_train.cli.build_model import make_model, make_renderer, question_views
from velm_train.cli.calibrate_answers import ANSWERS_FILE
from velm_train.cli.instruct import collator
from velm_train.cli.prepare import region_settings
from velm_train.cli.run_config import ADAPTER_FOLDER, CONFIG_FILE, read_run_config
from velm_train.cli.system_file import (
    ADAPTERS,
    GATES_FILE,
    SPLIT_FILE,
    SYSTEM_NAME,
    CategorySystem,
    SystemFile,
    changed,
    read_system,
)
from velm_train.cli.workshop import Workshop, open_workshop
from velm_train.config import Config
from velm_train.core.answer_scores import AnswerPolicy
from velm_train.core.artifacts import ArtifactStore
from velm_train.core.errors import ArtifactError, DataError, GateError
from velm_train.core.hashing import sha256_file, sha256_json
from velm_train.core.progress import SilentProgress
from velm_train.core.records import NORMAL_DEFECT_TYPE, GatePolicy, ImageRecord
from velm_train.datasets.manifests import SplitManifest
from velm_train.detectors.protocol import Detector
from velm_train.evaluation.inspecting import AskedModel, LookingSettings
from velm_train.evaluation.inspector import Inspector
from velm_train.evaluation.verdicts import abstention_of
from velm_train.gating.gate import CalibratedGate
from velm_train.models.saving import verify_adapter
from velm_train.models.weight_files import MANIFEST_NAME
from velm_train.pipeline.detection import DETECTORS, read_state
from velm_train.pipeline.samples import CropSettings

AnyInspector = TypeVar("AnyInspector", bound=Inspector)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedRun:
    """What a run folder says, read and checked; no weight is loaded.

    Attributes:
        config: of the run, with the folders of this machine.
        detectors: artefact key -> folder of a fitted detector, verified.
        adapter: folder with its weights, verified.
        known: sha256 -> role of every file that the run used.
        answers: the run's calibration of answers; None if it has none.
        identity: hash of everything that shapes its word about a picture.
    """

    folder: Path
    config: Config
    system: SystemFile
    gates: Mapping[str, CalibratedGate]
    known: Mapping[str, str]
    answers: AnswerPolicy | None
    detectors: Mapping[str, Path]
    adapter: Path
    identity: str

    def abstention(self, asked_for: float | None) -> float:
        """Returns the least probability of an answer that is given: what is asked for, else the calibration's."""
        return abstention_of(self.answers) if asked_for is None else asked_for


def read_run(folder: Path, *, artifacts: Path | None, assets: Path | None) -> FinishedRun:
    """Reads a run folder, and sees that nothing in it was changed after the run.

    Args:
        folder: of a finished run or training.
        artifacts: folder of finished stages to search before the run's own; None for the run's own alone.
        assets: folder of fetched weights; None for the one the run used.

    Raises:
        ArtifactError: if it is no run folder, a file of it is not what the run left, or an artefact is gone.
        GateError: if the run's detector cannot judge single new pictures.
    """
    config = read_run_config(folder, needed=(GATES_FILE, SPLIT_FILE, SYSTEM_NAME))
    if assets is not None:
        config = dataclasses.replace(config, paths=dataclasses.replace(config.paths, assets=str(assets)))
    system = read_system(folder)
    if config.detector.maps is not None or config.detector.musc is not None:
        raise GateError(
            f"ckpt={folder}: its detector {config.detector.name} judges pictures together or from maps on disk, not "
            "one by one; run again with another detector"
        )
    gates = {name: CalibratedGate.from_json(body) for name, body in _read_json(folder / GATES_FILE).items()}
    answers = _read_answers(folder / ANSWERS_FILE)
    manifest = SplitManifest.load(folder / SPLIT_FILE)
    roots = dict.fromkeys(root for root in (artifacts, Path(system.artifacts)) if root is not None)
    find = partial(_find, roots=list(roots), run_folder=folder)
    keys = dict.fromkeys(category.detector_key for category in system.categories.values())
    return FinishedRun(
        folder=folder,
        config=config,
        system=system,
        gates=gates,
        known={entry.sha256: entry.role for entry in manifest.entries},
        answers=answers,
        detectors={key: find(DETECTORS, key, what="the fitted detector") for key in keys},
        adapter=_adapter(folder, system, find=find),
        identity=sha256_json(
            {
                "adapter": system.adapter_key,
                "gates": {name: gate.to_json() for name, gate in gates.items()},
                "answers": None if answers is None else answers.to_json(),
                "seed": config.seed,
                "settings": [config.regions, config.instructions, config.evaluation, config.model],
            }
        ),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); run again to make it anew") from error
    return body


def _read_answers(path: Path) -> AnswerPolicy | None:
    if not path.is_file():
        return None
    try:
        return AnswerPolicy.from_json(_read_json(path))
    except DataError as error:
        raise ArtifactError(f"{path}: {error}") from error


def _find(stage: str, key: str, *, what: str, roots: Sequence[Path], run_folder: Path) -> Path:
    """Returns where an artefact of the run lies, its files verified.

    Raises:
        ArtifactError: if it is below none of the roots, or damaged.
    """
    for root in roots:
        folder = root / stage / key
        if folder.exists():
            ArtifactStore(root, progress=SilentProgress()).verify(folder)
            return folder
    places = " and ".join(map(str, roots))
    raise ArtifactError(
        f"{what} of this run, {stage}/{key}, is not in {places}; set paths.artifacts to where it is, or make it anew: "
        f"{command_of(run_folder)}"
    )


def _adapter(folder: Path, system: SystemFile, *, find: Callable[..., Path]) -> Path:
    """Returns the adapter, verified: the run folder's own copy, or the artefact it was copied from.

    Raises:
        ArtifactError: if neither is there, or it is not the one of the run.
    """
    own = folder / ADAPTER_FOLDER
    if not own.is_dir():
        return find(ADAPTERS, system.adapter_key, what="the adapter") / ADAPTER_FOLDER
    verify_adapter(own)
    if sha256_file(own / MANIFEST_NAME) != system.adapter_sha256:
        raise ArtifactError(changed(own / MANIFEST_NAME))
    return own


def command_of(folder: Path) -> str:
    """Returns the command that made a run, as far as it is known."""
    overrides = folder / ".hydra" / "overrides.yaml"
    try:
        words = OmegaConf.to_container(OmegaConf.load(overrides)) if overrides.is_file() else []
    except (OSError, YAMLError, OmegaConfBaseException):
        words = []
    listed = [str(word) for word in words] if isinstance(words, list) else []
    return " ".join(["python -m velm_train", *(listed or [f"with the settings in {folder / CONFIG_FILE}"])])


def build_inspector(run: FinishedRun, *, kind: type[AnyInspector], abstain_below: float | None) -> AnyInspector:
    """Loads detectors, model and adapter.

    Args:
        run: from `read_run`.
        kind: class of the inspector.
        abstain_below: answers less probable than this, 0 to 1, are called "unsure"; None for what the run's own
            calibration says.

    Raises:
        ArtifactError: if a fitted detector or the adapter does not fit the run's settings.
        AssetError: if weights cannot be had.
    """
    shop = open_workshop(run.config, run_folder=None)
    inspector = kind(
        gates=run.gates,
        detectors=_detectors(run, shop),
        taxonomy=run.system.taxonomy,
        references={name: _references(run, name, one) for name, one in run.system.categories.items()},
        known=run.known,
        asked=_asked(run, shop),
        looking=looking_settings(run.config),
        answers=run.answers,
        abstain_below=run.abstention(abstain_below),
    )
    merged = ExitStack()
    merged.enter_context(inspector.asked.model.merged_for_inference())
    weakref.finalize(inspector, merged.close)
    return inspector


def _detectors(run: FinishedRun, shop: Workshop) -> dict[str, Detector]:
    """Returns the fitted detector of every category; categories that share one share it here as well."""
    make = make_detector(run.config, assets=shop.assets)
    by_key: dict[str, Detector] = {}
    for key, folder in run.detectors.items():
        by_key[key] = make()
        by_key[key].load_state(read_state(folder))
    return {name: by_key[category.detector_key] for name, category in run.system.categories.items()}


def _references(run: FinishedRun, category: str, system: CategorySystem) -> Sequence[ImageRecord]:
    return [
        ImageRecord(
            image_id=one.image_id,
            dataset=run.system.taxonomy.dataset,
            category=category,
            split="train",
            defect_type=NORMAL_DEFECT_TYPE,
            image_path=run.folder / one.file,
            gt_mask_paths=(),
            sha256=one.sha256,
            group_id=one.image_id,
            size_hw=one.size_hw,
        )
        for one in system.references
    ]


def _asked(run: FinishedRun, shop: Workshop) -> AskedModel:
    device = make_device(run.config)
    model = make_model(run.config, assets=shop.assets).to(device)
    model.load_adapter(run.adapter)
    renderer = make_renderer(model, assets=shop.assets)
    return AskedModel(
        model=model,
        renderer=renderer,
        collate=lambda features: collator(shop, renderer=renderer, features=features),
        encode_batch_size=run.config.model.encode_batch_size,
        answer_batch_size=run.config.evaluation.batch_size,
        device=device,
    )


def looking_settings(config: Config) -> LookingSettings:
    """Returns how the run cuts regions and asks; ground truth decides about no new picture."""
    policy = "detector" if config.gate.policy == "oracle" else config.gate.policy
    return LookingSettings(
        policy=cast("GatePolicy", policy),
        regions=region_settings(config),
        crops=CropSettings(margin_fraction=config.regions.crop_margin_fraction, min_size_px=config.regions.crop_min_px),
        views=tuple(question_views(config)),
        num_option_orders=config.evaluation.option_orders,
        with_descriptions=config.instructions.with_descriptions,
        contour_width_px=config.regions.contour_width_px,
        seed=config.seed,
    )
