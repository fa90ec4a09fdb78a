"""Settings for the comparison of finished runs."""

from dataclasses import dataclass

from velm_train.config.checks import one_of

PAIRS = ("all", "first")


@dataclass(kw_only=True, slots=True)
class CompareConfig:
    """How runs are compared.

    Attributes:
        pairs: which runs are tested against each other: all, or every run against the first one.
    """

    pairs: str

    def __post_init__(self) -> None:
        """Checks the values."""
        one_of("compare.pairs", self.pairs, PAIRS)
