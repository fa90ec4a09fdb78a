"""Settings for the synthesis of labelled defects on good images, `task=synthesise`."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, one_of, require
from velm_train.core.records import NORMAL_DEFECT_TYPE
from velm_train.datasets.synthesis.names import OPERATOR_NAMES, TYPE_NAME


@dataclass(kw_only=True, slots=True)
class DefectsConfig:
    """Which defects `task=synthesise` makes; no other task reads it.

    Attributes:
        types: names of recipes, each once; at least one.
        recipes: defect type -> operators, applied one after the other on the same image.
        per_type: images of each type and category, 2 or more; half of them (rounded up) for the training side.
        foreground: auto keeps defects to the part where a plain background is found; whole uses all of the picture.
        seed: of the images, 0 or more; apart from the run's seed, so that runs with several seeds share one set.
        out: new or empty folder for the data set, or null for paths.artifacts.
    """

    types: list[str]
    recipes: dict[str, list[str]]
    per_type: int
    foreground: str
    seed: int
    out: str | None

    def __post_init__(self) -> None:
        """Checks the values."""
        require(bool(self.types), key="defects.types", got=self.types, allowed="one type or more")
        require(len(set(self.types)) == len(self.types), key="defects.types", got=self.types, allowed="each once")
        for name in self.types:
            one_of("defects.types", name, tuple(self.recipes))
        for name, operators in self.recipes.items():
            require(
                TYPE_NAME.fullmatch(name) is not None and name != NORMAL_DEFECT_TYPE,
                key="defects.recipes",
                got=name,
                allowed="names of small letters, digits, _ and -, and not 'good'",
            )
            require(bool(operators), key=f"defects.recipes.{name}", got=operators, allowed="one operator or more")
            for operator in operators:
                one_of(f"defects.recipes.{name}", operator, OPERATOR_NAMES)
        at_least("defects.per_type", self.per_type, 2, "images")
        one_of("defects.foreground", self.foreground, ("auto", "whole"))
        at_least("defects.seed", self.seed, 0)
        require(self.out != "", key="defects.out", got="''", allowed="a folder or null")
