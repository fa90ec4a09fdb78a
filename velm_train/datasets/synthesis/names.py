"""Names that settings may use, apart from the code behind them, so that settings are checked without loading it."""

import re

OPERATOR_NAMES = (
    "bent",
    "color",
    "crack",
    "cut_paste",
    "glue",
    "hole",
    "missing_part",
    "perlin_texture",
    "poisson_blend",
    "scar",
    "scratch",
    "stain",
    "thread",
    "warp",
)
"""Keys of `recipes.OPERATORS`."""

TYPE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""A type's name is a folder's name, and what people and the language model call the type; "good" is not one."""
