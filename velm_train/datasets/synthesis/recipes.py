"""Operators by name, and recipes made of them: type name -> operator names in, type name -> one operator out."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from velm_train.core.errors import DataError
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.datasets.defects import DEFECT_PAINTERS
from velm_train.datasets.reading import nearest
from velm_train.datasets.synthesis.contamination import PERLIN_TEXTURE
from velm_train.datasets.synthesis.missing import MISSING_PART
from velm_train.datasets.synthesis.names import TYPE_NAME
from velm_train.datasets.synthesis.painted import PaintedDefect
from velm_train.datasets.synthesis.pasted import CUT_PASTE, POISSON_BLEND, SCAR
from velm_train.datasets.synthesis.protocol import Operator, chain
from velm_train.datasets.synthesis.warp import WARP

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        **{name: PaintedDefect(painter=painter) for name, painter in DEFECT_PAINTERS.items()},
        "cut_paste": CUT_PASTE,
        "missing_part": MISSING_PART,
        "perlin_texture": PERLIN_TEXTURE,
        "poisson_blend": POISSON_BLEND,
        "scar": SCAR,
        "warp": WARP,
    }
)
"""Operator name -> what makes the defect."""


def make_recipes(recipes: Mapping[str, Sequence[str]]) -> dict[str, Operator]:
    """Returns one operator for every type; several names are applied in order.

    Args:
        recipes: type name -> names of OPERATORS, at least one.

    Raises:
        DataError: if no type is asked for, a type's name cannot be a folder's, or an operator is unknown.
    """
    if not recipes:
        raise DataError("no defect type is asked for; give at least one recipe")
    for name, operators in recipes.items():
        if not TYPE_NAME.fullmatch(name) or name == NORMAL_DEFECT_TYPE:
            raise DataError(
                f"defect type {name!r} cannot be a type's name; use small letters, digits, _ and -, and not 'good'"
            )
        if not operators:
            raise DataError(f"defect type {name!r} has no operator; choose from {', '.join(OPERATORS)}")
        for operator in operators:
            if operator not in OPERATORS:
                raise DataError(
                    f"defect type {name!r}: operator {operator!r} is unknown{nearest(operator, OPERATORS)}; allowed: "
                    f"{', '.join(OPERATORS)}"
                )
    return {name: chain(*(OPERATORS[operator] for operator in recipes[name])) for name in sorted(recipes)}
