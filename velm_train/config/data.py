"""Settings for what to do, where, and with which images."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, between, one_of, require
from velm_train.core.errors import ConfigError
from velm_train.datasets.readers import READERS
from velm_train.datasets.texture_specs import PIECES_HW
from velm_train.instructions.formats.names import FORMAT_NAMES

TASKS = (
    "run",
    "train",
    "instruct",
    "detect",
    "preview",
    "audit",
    "compare",
    "score",
    "predict",
    "export",
    "synthesise",
    "fetch",
    "doctor",
    "status",
    "resubmit",
)
EMBEDDED_READERS = ("textures", "textile")
READER_NAMES = ("textures", "huggingface", *READERS)


@dataclass(kw_only=True, slots=True)
class TaskConfig:
    """What to do.

    Attributes:
        name: how far to go: run (everything), train, instruct, detect; or preview, audit, compare, score, predict,
            export, synthesise, fetch, doctor, status, resubmit.
        num_preview: samples that task=preview prints; 0 looks at the data alone, without detector and model.
        num_thumbnails: images of each category and type on the page of task=preview, 1 or more.
        export: formats that task=instruct writes its samples in for other trainers: anomaly_instruct, sharegpt,
            hf_datasets; each at most once.
    """

    name: str
    num_preview: int
    num_thumbnails: int
    export: list[str]

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("task.name", self.name, TASKS)
        at_least("task.num_preview", self.num_preview, 0)
        at_least("task.num_thumbnails", self.num_thumbnails, 1)
        for format_name in self.export:
            one_of("task.export", format_name, FORMAT_NAMES)
        require(len(set(self.export)) == len(self.export), key="task.export", got=self.export, allowed="each once")
        require(
            not self.export or self.name == "instruct",
            key="task.export",
            got=self.export,
            allowed="[] unless task=instruct, which alone exports",
        )


@dataclass(kw_only=True, slots=True)
class PathsConfig:
    """Folders; created when first written to.

    Attributes:
        assets: fetched weights and images, shared by all projects of a user.
        artifacts: finished stages, content-addressed, shared by all runs.
        outputs: one folder per run.
    """

    assets: str
    artifacts: str
    outputs: str

    def __post_init__(self) -> None:
        """Checks the values."""
        for key in ("assets", "artifacts", "outputs"):
            require(bool(getattr(self, key)), key=f"paths.{key}", got="''", allowed="a folder")


@dataclass(kw_only=True, slots=True)
class SynthesisConfig:
    """How the textures set is made; only for `dataset.reader=textures`.

    Attributes:
        height_px: image height, 64 to 1024 pixels.
        width_px: image width, 64 to 1024 pixels.
        train_good: normal training images per category, 2 or more; each shows a piece of its own.
        test_good: normal test images per category, 1 or more; together with train_good at most 30, as many pieces as a
            photograph has.
        defects_seen: images per defect type in seen categories, 2 or more; half of them (rounded up) show training
            pieces.
        defects_unseen: images per defect type in unseen categories, 1 or more.
        seed: of the images, 0 or more; apart from the run's seed, so that runs with several seeds share one set.
    """

    height_px: int
    width_px: int
    train_good: int
    test_good: int
    defects_seen: int
    defects_unseen: int
    seed: int

    def __post_init__(self) -> None:
        """Checks the values."""
        between("dataset.synthesis.height_px", self.height_px, 64, 1024, "pixels")
        between("dataset.synthesis.width_px", self.width_px, 64, 1024, "pixels")
        at_least("dataset.synthesis.train_good", self.train_good, 2, "images")
        at_least("dataset.synthesis.test_good", self.test_good, 1, "images")
        at_least("dataset.synthesis.defects_seen", self.defects_seen, 2, "images")
        at_least("dataset.synthesis.defects_unseen", self.defects_unseen, 1, "images")
        between(
            "dataset.synthesis.train_good + dataset.synthesis.test_good",
            self.train_good + self.test_good,
            3,
            PIECES_HW[0] * PIECES_HW[1],
            "images, one for each piece of a photograph",
        )
        at_least("dataset.synthesis.seed", self.seed, 0)


@dataclass(kw_only=True, slots=True)
class HuggingFaceConfig:
    """Which column of a Hugging Face data set holds what; only for `dataset.reader=huggingface`.

    Attributes:
        subset: the data set's configuration, or null if it has one.
        image: column of pictures.
        defect_type: column of labels.
        category: column of categories, or null if all images are of one, `single_category`.
        mask: column of masks, or null.
        group: column of physical parts, or null.
        normal_labels: labels that mean a normal image.
        single_category: category of all images where no column gives it.
    """

    subset: str | None
    image: str
    defect_type: str
    category: str | None
    mask: str | None
    group: str | None
    normal_labels: list[str]
    single_category: str

    def __post_init__(self) -> None:
        """Checks the values."""
        for key in ("image", "defect_type", "single_category"):
            require(bool(getattr(self, key)), key=f"dataset.huggingface.{key}", got="''", allowed="a name")
        key = "dataset.huggingface.normal_labels"
        require(bool(self.normal_labels), key=key, got="[]", allowed="one label or more")


@dataclass(kw_only=True, slots=True)
class DatasetConfig:
    """Which images.

    Attributes:
        name: used in image ids and reports.
        reader: the layout on disk; textures and textile are made from fetched assets, all others read `root`.
        root: dataset folder (or CSV/JSONL file for table); must be null for the embedded readers.
        categories: categories to use; empty means all.
        unseen_categories: categories that training never sees.
        taxonomy: file name in data/taxonomies without .json, a path, or null to derive names from the folders.
        on_bad_file: refuse stops at an image or mask that cannot be used; exclude leaves it out and says so.
        synthesis: how the textures set is made, or null.
        huggingface: columns of a Hugging Face data set, whose folder or hub id `root` is then; or null.
    """

    name: str
    reader: str
    root: str | None
    categories: list[str]
    unseen_categories: list[str]
    taxonomy: str | None
    on_bad_file: str
    synthesis: SynthesisConfig | None
    huggingface: HuggingFaceConfig | None

    def __post_init__(self) -> None:
        """Checks the values."""
        require(bool(self.name), key="dataset.name", got="''", allowed="a name")
        one_of("dataset.reader", self.reader, READER_NAMES)
        one_of("dataset.on_bad_file", self.on_bad_file, ("refuse", "exclude"))
        embedded = self.reader in EMBEDDED_READERS
        require(
            embedded or self.root is not None,
            key="dataset.root",
            got=self.root,
            allowed="a folder, for example dataset.root=/data/mvtec",
        )
        require(not embedded or self.root is None, key="dataset.root", got=self.root, allowed=f"null ({self.reader})")
        textures = self.reader == "textures"
        require(
            textures == (self.synthesis is not None),
            key="dataset.synthesis",
            got="null" if self.synthesis is None else "set",
            allowed="set for dataset.reader=textures, null otherwise",
        )
        hub = self.reader == "huggingface"
        require(
            hub == (self.huggingface is not None),
            key="dataset.huggingface",
            got="null" if self.huggingface is None else "set",
            allowed="set for dataset.reader=huggingface, null otherwise",
        )
        unknown = set(self.unseen_categories) - set(self.categories)
        if self.categories and unknown:
            raise ConfigError(f"dataset.unseen_categories names {sorted(unknown)}, which dataset.categories lacks")
