"""Settings for instructions, model, look-twice adapter and LoRA."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, between, inside, one_of, require

LOOK_TWICE_SOURCES = ("map", "learned", "fused", "random", "centre", "oracle", "off")
LOOK_TWICE_FORMS = ("improved", "published")
LORA_VARIANTS = ("lora", "rslora", "dora", "pissa")
LORA_TARGETS = ("attention", "attention_mlp")
VIEW_KINDS = ("reference", "query", "query_contour", "crop")
INSTRUCTION_TASKS = ("name_type", "same_or_different", "locate_then_name")


@dataclass(kw_only=True, slots=True)
class InstructionTaskConfig:
    """One task template.

    Attributes:
        weight: share of the training samples, relative to the other tasks, 0 or more.
        views: pictures shown, in order: reference, query, query_contour, crop.
    """

    weight: float
    views: list[str]

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("instructions.tasks.*.weight", self.weight, 0.0)
        require(bool(self.views), key="instructions.tasks.*.views", got="[]", allowed="one view or more")
        for view in self.views:
            one_of("instructions.tasks.*.views", view, VIEW_KINDS)


@dataclass(kw_only=True, slots=True)
class InstructionsConfig:
    """What the model is asked and taught.

    Attributes:
        tasks: task name -> weight and views; name_type is the one that evaluation asks.
        samples_per_region: training samples drawn for each region, 1 or more.
        none_of_these_probability: how often the true type is left off the list, 0 to 1.
        option_subset_probability: how often only some of the types are listed, 0 to 1.
        min_options: fewest options on a shortened list, "no defect" and "none of these" included, 3 or more.
        paraphrase_probability: how often another wording is used, 0 to 1.
        synonym_probability: how often a synonym replaces a display name, 0 to 1.
        with_descriptions: whether each type's description is in the prompt.
        max_tokens: longest sample; longer ones are refused, never cut.
    """

    tasks: dict[str, InstructionTaskConfig]
    samples_per_region: int
    none_of_these_probability: float
    option_subset_probability: float
    min_options: int
    paraphrase_probability: float
    synonym_probability: float
    with_descriptions: bool
    max_tokens: int

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in self.tasks:
            one_of("instructions.tasks", name, INSTRUCTION_TASKS)
        require(
            "name_type" in self.tasks, key="instructions.tasks", got=list(self.tasks), allowed="name_type and others"
        )
        weights = {name: task.weight for name, task in self.tasks.items()}
        require(
            sum(weights.values()) > 0, key="instructions.tasks.*.weight", got=weights, allowed="one above 0 at least"
        )
        at_least("instructions.samples_per_region", self.samples_per_region, 1)
        for key in ("none_of_these", "option_subset", "paraphrase", "synonym"):
            between(f"instructions.{key}_probability", getattr(self, f"{key}_probability"), 0.0, 1.0)
        at_least("instructions.min_options", self.min_options, 3)
        at_least("instructions.max_tokens", self.max_tokens, 16)


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The multimodal model.

    Attributes:
        family: embedded.
        cnn_px: square input side of the convolutional tower, a multiple of 32.
        vit_px: square input side of the transformer tower, a multiple of 28; cnn_px / 32 must equal vit_px / 28.
        first_look_grid: rows and columns of first-look tokens per view; divides cnn_px / 32.
        encode_batch_size: views per pass through the frozen towers.
        dtype: float32 or bfloat16, of the frozen language model and of the towers' matrix products.
    """

    family: str
    cnn_px: int
    vit_px: int
    first_look_grid: int
    encode_batch_size: int
    dtype: str

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("model.family", self.family, ("embedded",))
        require(
            self.cnn_px % 32 == 0 and self.cnn_px >= 64, key="model.cnn_px", got=self.cnn_px, allowed="a multiple of 32"
        )
        require(
            self.vit_px * 32 == self.cnn_px * 28,
            key="model.vit_px",
            got=self.vit_px,
            allowed=f"{self.cnn_px * 28 // 32} for model.cnn_px={self.cnn_px}",
        )
        grid = self.cnn_px // 32
        require(
            self.first_look_grid >= 1 and grid % self.first_look_grid == 0,
            key="model.first_look_grid",
            got=self.first_look_grid,
            allowed=f"a divisor of {grid}",
        )
        at_least("model.encode_batch_size", self.encode_batch_size, 1)
        one_of("model.dtype", self.dtype, ("float32", "bfloat16"))


@dataclass(kw_only=True, slots=True)
class LookTwiceConfig:
    """The look-twice adapter.

    Attributes:
        source: what says which tokens are suspicious; oracle reads ground-truth masks, and every figure says so.
        form: improved, or published for the equations of the released code, with source learned.
        pool: second-look tokens per view are pool x pool plus one, 1 or more.
        dim: width of the matching space.
        levels: vision-tower blocks that the adapter reads.
        map_steepness: slope of the map's sigmoid, in units of the pixel threshold.
        map_prior_weight: weight of the map in source fused, 0 or more.
        mask_weight: weight of the focal and Dice loss of token scores against ground-truth masks of training images,
            0 to read none; source learned or fused.
        score_noise: standard deviation of noise on the learned part's logit in training, 0 for none; form improved.
    """

    source: str
    form: str
    pool: int
    dim: int
    levels: list[str]
    map_steepness: float
    map_prior_weight: float
    mask_weight: float
    score_noise: float

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("look_twice.source", self.source, LOOK_TWICE_SOURCES)
        one_of("look_twice.form", self.form, LOOK_TWICE_FORMS)
        require(
            self.form == "improved" or self.source in ("learned", "off"),
            key="look_twice.source",
            got=self.source,
            allowed="learned for look_twice.form=published",
        )
        at_least("look_twice.pool", self.pool, 1)
        at_least("look_twice.dim", self.dim, 8)
        require(bool(self.levels), key="look_twice.levels", got="[]", allowed="one level or more")
        inside("look_twice.map_steepness", self.map_steepness, 0.0, 100.0)
        between("look_twice.map_prior_weight", self.map_prior_weight, 0.0, 10.0)
        between("look_twice.mask_weight", self.mask_weight, 0.0, 100.0)
        require(
            self.mask_weight == 0 or self.source in ("learned", "fused"),
            key="look_twice.mask_weight",
            got=self.mask_weight,
            allowed="0 for a source that does not learn",
        )
        between("look_twice.score_noise", self.score_noise, 0.0, 10.0)
        require(
            self.form == "improved" or self.score_noise == 0,
            key="look_twice.score_noise",
            got=self.score_noise,
            allowed="0 for look_twice.form=published",
        )


@dataclass(kw_only=True, slots=True)
class LoraConfig:
    """Low-rank adaptation of the language model.

    Attributes:
        r: rank, 1 to 512.
        alpha: scale numerator, above 0.
        dropout: 0 to below 1.
        variant: lora, rslora, dora or pissa.
        targets: attention (q, k, v, o) or attention_mlp (all seven linear kinds).
    """

    r: int
    alpha: float
    dropout: float
    variant: str
    targets: str

    def __post_init__(self) -> None:
        """Checks the values."""
        between("lora.r", self.r, 1, 512)
        inside("lora.alpha", self.alpha, 0.0, 4096.0)
        require(0 <= self.dropout < 1, key="lora.dropout", got=self.dropout, allowed="0 to below 1")
        one_of("lora.variant", self.variant, LORA_VARIANTS)
        one_of("lora.targets", self.targets, LORA_TARGETS)
