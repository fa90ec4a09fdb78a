"""A processor and bounds in pixels in, the same processor with the family's own way of keeping them out."""

from transformers import ProcessorMixin

from velm_train.core.errors import ConfigError
from velm_train.models.families.build import FamilyParts


def set_image_bounds(parts: FamilyParts, *, min_pixels: int | None, max_pixels: int | None) -> bool:
    """Limits how large a view the tower sees; None leaves what the checkpoint came with.

    | family | what the bounds become |
    |---|---|
    | qwen2_5_vl, qwen3_vl | area of the resized view |
    | llava_onevision | canvases of at most that area; below two tiles, one padded square per view |
    | smolvlm | longest side, in whole tiles, whose square is at most that area; one tile: no crops |
    | internvl | number of crops of at most that area together |

    Args:
        parts: its processor, and for LLaVA-OneVision its configuration, are changed in place.
        min_pixels: area of a view in the tower, for Qwen alone.
        max_pixels: the same; whole views beside crops are not counted.

    Returns:
        True if LLaVA-OneVision cuts views into crops, as `assemble_family(tile_views=...)` takes it; True for others.

    Raises:
        ConfigError: if a bound is impossible for the family.
    """
    if min_pixels is not None and max_pixels is not None and min_pixels > max_pixels:
        raise ConfigError(f"model.hub.min_pixels is {min_pixels}, above model.hub.max_pixels {max_pixels}; lower it")
    if parts.family.startswith("qwen"):
        _bound_area(parts.processor, min_pixels=min_pixels, max_pixels=max_pixels)
        return True
    if min_pixels is not None:
        raise ConfigError(
            f"model.hub.min_pixels is {min_pixels}, but {parts.family} has tiles of one size; set it to null"
        )
    if max_pixels is None:
        return True
    images = parts.processor.image_processor
    if parts.family == "smolvlm":
        side = images.max_image_size["longest_edge"]
        _require_tile(max_pixels, side=side, family=parts.family)
        tiles = int((max_pixels / side**2) ** 0.5)
        images.size = {"longest_edge": tiles * side}
        images.do_image_splitting = tiles > 1
        return True
    side = images.size["height"]
    _require_tile(max_pixels, side=side, family=parts.family)
    if parts.family == "internvl":
        images.max_patches = max_pixels // side**2
        images.min_patches = min(images.min_patches, images.max_patches)
        return True
    canvases = [canvas for canvas in images.image_grid_pinpoints if canvas[0] * canvas[1] <= max_pixels]
    if max_pixels < 2 * side**2:
        return False
    images.image_grid_pinpoints = canvases
    parts.vlm.config.image_grid_pinpoints = canvases
    return True


def _bound_area(processor: ProcessorMixin, *, min_pixels: int | None, max_pixels: int | None) -> None:
    images = processor.image_processor
    cell = (images.patch_size * images.merge_size) ** 2
    for name, value in (("min_pixels", min_pixels), ("max_pixels", max_pixels)):
        if value is not None and value < cell:
            raise ConfigError(f"model.hub.{name} is {value}, less than one visual token; at least {cell}")
    images.size = {
        "shortest_edge": images.size["shortest_edge"] if min_pixels is None else min_pixels,
        "longest_edge": images.size["longest_edge"] if max_pixels is None else max_pixels,
    }
    if images.size["shortest_edge"] > images.size["longest_edge"]:
        if min_pixels is not None:
            raise ConfigError(
                f"model.hub.min_pixels is {min_pixels}, above the checkpoint's own largest area of "
                f"{images.size['longest_edge']}; lower it, or set model.hub.max_pixels"
            )
        images.size = {"shortest_edge": images.size["longest_edge"], "longest_edge": images.size["longest_edge"]}


def _require_tile(max_pixels: int, *, side: int, family: str) -> None:
    if max_pixels < side**2:
        raise ConfigError(f"model.hub.max_pixels is {max_pixels}, less than one tile of {family}; at least {side**2}")
