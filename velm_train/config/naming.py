"""Settings for instructions, look-twice adapter and LoRA."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, between, inside, one_of, require

LOOK_TWICE_SOURCES = ("map", "learned", "fused", "random", "centre", "oracle", "off")
LOOK_TWICE_FORMS = ("improved", "published")
LORA_VARIANTS = ("lora", "rslora", "dora", "pissa")
LORA_TARGETS = ("attention", "attention_mlp")
QUANTISATIONS = ("none", "nf4", "int8")
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
        max_tokens: longest sample with its answer, 16 or more; longer ones are refused, never cut; null for the
            language model's own context.
    """

    tasks: dict[str, InstructionTaskConfig]
    samples_per_region: int
    none_of_these_probability: float
    option_subset_probability: float
    min_options: int
    paraphrase_probability: float
    synonym_probability: float
    with_descriptions: bool
    max_tokens: int | None

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
        if self.max_tokens is not None:
            at_least("instructions.max_tokens", self.max_tokens, 16)


@dataclass(kw_only=True, slots=True)
class LookTwiceConfig:
    """The look-twice adapter.

    Attributes:
        source: what says which tokens are suspicious; oracle reads ground-truth masks, and every figure says so.
        form: improved, or published for the equations of the released code, with source learned.
        pool: second-look tokens per view are pool x pool plus one, 1 or more.
        dim: width of the matching space.
        levels: vision-tower blocks that the adapter reads, counted from 1; null for the model's own choice.
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
    levels: list[int] | None
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
        require(
            self.levels is None or (bool(self.levels) and min(self.levels) >= 1),
            key="look_twice.levels",
            got=self.levels,
            allowed="numbers of blocks, 1 or more, or null",
        )
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
class LayerLoraConfig:
    """Rank and scale of some layers.

    Attributes:
        layers: regular expression of the end of their names, such as mlp.down_proj.
        r: rank, 1 to 512.
        alpha: scale numerator, above 0.
    """

    layers: str
    r: int
    alpha: float

    def __post_init__(self) -> None:
        """Checks the values."""
        require(bool(self.layers), key="lora.per_layer.*.layers", got="''", allowed="a regular expression")
        between("lora.per_layer.*.r", self.r, 1, 512)
        inside("lora.per_layer.*.alpha", self.alpha, 0.0, 4096.0)


@dataclass(kw_only=True, slots=True)
class LoraConfig:
    """Low-rank adaptation of the language model.

    Attributes:
        r: rank, 1 to 512.
        alpha: scale numerator, above 0; the scale is alpha / r, of variant rslora alpha / sqrt(r).
        dropout: 0 to below 1.
        variant: lora, rslora, dora or pissa.
        targets: attention (q, k, v, o), attention_mlp (all seven linear kinds), or a regular expression of full names
            of linear layers in the language model's blocks.
        vision: whether the vision tower's blocks learn as well.
        quantisation: of the language model's frozen linear layers: none, nf4 (4 bits) or int8.
        per_layer: layers with a rank and alpha of their own; the first that matches counts.
    """

    r: int
    alpha: float
    dropout: float
    variant: str
    targets: str
    vision: bool
    quantisation: str
    per_layer: list[LayerLoraConfig]

    def __post_init__(self) -> None:
        """Checks the values."""
        between("lora.r", self.r, 1, 512)
        inside("lora.alpha", self.alpha, 0.0, 4096.0)
        require(0 <= self.dropout < 1, key="lora.dropout", got=self.dropout, allowed="0 to below 1")
        one_of("lora.variant", self.variant, LORA_VARIANTS)
        require(
            self.targets in LORA_TARGETS or "." in self.targets,  # full names have dots
            key="lora.targets",
            got=self.targets,
            allowed=f"{', '.join(LORA_TARGETS)}, or a regular expression of full names such as "
            "'.*language_model.*q_proj'",
        )
        require(
            not self.vision,
            key="lora.vision",
            got=self.vision,
            allowed="false, because alignment, probes and the rows beside the run read what the frozen vision tower "
            "says of a view, stored or not; with LoRA inside it, that would be out of date after one step",
        )
        one_of("lora.quantisation", self.quantisation, QUANTISATIONS)
        layers = [one.layers for one in self.per_layer]
        require(len(set(layers)) == len(layers), key="lora.per_layer", got=layers, allowed="each pattern once")
        self._check_quantisation()

    def _check_quantisation(self) -> None:
        """Not every variant can stand on rounded weights."""
        carried = {"none": LORA_VARIANTS, "nf4": ("lora", "rslora", "dora"), "int8": ("lora", "rslora")}
        allowed = carried[self.quantisation]
        require(
            self.variant in allowed,
            key="lora.variant",
            got=self.variant,
            allowed=f"{', '.join(allowed)} with lora.quantisation={self.quantisation}"
            + (": rounding what is left of the base weights would undo pissa" if self.variant == "pissa" else ""),
        )
