"""Settings for the multimodal model: what all families share, and one block for the embedded one and for the others."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, one_of, require

EMBEDDED = "embedded"
EMBEDDED_LEVELS = (3, 6, 9, 12)
"""Blocks of the embedded transformer tower that the look-twice adapter may read."""

HUB_FAMILIES = ("qwen2_5_vl", "qwen3_vl", "llava_onevision", "smolvlm", "internvl")


@dataclass(kw_only=True, slots=True)
class EmbeddedConfig:
    """Two small towers and SmolLM2, all from pinned packages.

    Attributes:
        cnn_px: square input side of the convolutional tower, a multiple of 32.
        vit_px: square input side of the transformer tower, a multiple of 28; cnn_px / 32 must equal vit_px / 28.
        first_look_grid: rows and columns of first-look tokens per view; divides cnn_px / 32.
    """

    cnn_px: int
    vit_px: int
    first_look_grid: int

    def __post_init__(self) -> None:
        """Checks the values."""
        key = "model.embedded.cnn_px"
        require(self.cnn_px % 32 == 0 and self.cnn_px >= 64, key=key, got=self.cnn_px, allowed="a multiple of 32")
        require(
            self.vit_px * 32 == self.cnn_px * 28,
            key="model.embedded.vit_px",
            got=self.vit_px,
            allowed=f"{self.cnn_px * 28 // 32} for model.embedded.cnn_px={self.cnn_px}",
        )
        grid = self.cnn_px // 32
        require(
            self.first_look_grid >= 1 and grid % self.first_look_grid == 0,
            key="model.embedded.first_look_grid",
            got=self.first_look_grid,
            allowed=f"a divisor of {grid}",
        )


@dataclass(kw_only=True, slots=True)
class HubConfig:
    """A checkpoint that transformers can load.

    Attributes:
        path: hub id, or a folder that holds a checkpoint; null for a small model of random weights, made on the spot.
        revision: branch, tag or commit of the hub; null for the newest, or for what is on disk.
        attn_implementation: sdpa or eager; scoring the options needs one that takes a mask for each pair of tokens.
        min_pixels: smallest area of a view in the vision tower, pixels; null for the checkpoint's own; Qwen alone.
        max_pixels: largest area of a view in the vision tower, pixels; null for the checkpoint's own.
        max_views: most views of one prompt; null for no limit of the family's own.
        train_projector: whether the family's projector learns, at trainer.projector_learning_rate.
    """

    path: str | None
    revision: str | None
    attn_implementation: str
    min_pixels: int | None
    max_pixels: int | None
    max_views: int | None
    train_projector: bool

    def __post_init__(self) -> None:
        """Checks the values."""
        require(self.path != "", key="model.hub.path", got="''", allowed="a hub id, a folder, or null")
        require(
            self.revision is None or (self.path is not None and self.revision != ""),
            key="model.hub.revision",
            got=repr(self.revision),
            allowed="null, or a revision of the hub id in model.hub.path",
        )
        one_of("model.hub.attn_implementation", self.attn_implementation, ("sdpa", "eager"))
        for name in ("min_pixels", "max_pixels", "max_views"):
            value = getattr(self, name)
            if value is not None:
                at_least(f"model.hub.{name}", value, 1)
        if self.min_pixels is not None and self.max_pixels is not None:
            require(
                self.min_pixels <= self.max_pixels,
                key="model.hub.min_pixels",
                got=self.min_pixels,
                allowed=f"at most model.hub.max_pixels={self.max_pixels}",
            )


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """The multimodal model.

    Attributes:
        family: embedded, qwen2_5_vl, qwen3_vl, llava_onevision, smolvlm (and Idefics3) or internvl.
        encode_batch_size: views per pass through the frozen vision tower.
        dtype: float32 or bfloat16, of the frozen weights; what learns is float32.
        embedded: set for family embedded, else null.
        hub: set for every other family, else null.
    """

    family: str
    encode_batch_size: int
    dtype: str
    embedded: EmbeddedConfig | None
    hub: HubConfig | None

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("model.family", self.family, (EMBEDDED, *HUB_FAMILIES))
        at_least("model.encode_batch_size", self.encode_batch_size, 1)
        one_of("model.dtype", self.dtype, ("float32", "bfloat16"))
        wanted = "embedded" if self.family == EMBEDDED else "hub"
        for name, block in (("embedded", self.embedded), ("hub", self.hub)):
            require(
                (block is not None) == (name == wanted),
                key=f"model.{name}",
                got="null" if block is None else "set",
                allowed=f"the block {wanted} and no other for model.family={self.family}; choose a whole model, such "
                "as model=embedded or model=qwen2_5_vl_3b",
            )
