"""Words such as `lora.r=choice(4,8)` in; what each trial draws from, and the words that all trials share, out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from velm_train.core.errors import ConfigError

LOG, SEED = "log", "seed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """A setting that takes one of several values.

    Attributes:
        values: as they are written on the command line.
    """

    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A setting that takes any value between two.

    Attributes:
        low: least value.
        high: greatest value.
        log: whether its logarithm is drawn evenly.
        whole: whether only whole numbers are drawn.
    """

    low: float
    high: float
    log: bool
    whole: bool


Dimension = Choices | Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """What a sweep tries.

    Attributes:
        fixed: words of every trial.
        dimensions: setting or group -> what it may be.
    """

    fixed: tuple[str, ...]
    dimensions: Mapping[str, Dimension]

    def words(self, drawn: Mapping[str, object]) -> tuple[str, ...]:
        """Returns the command line of a trial.

        Args:
            drawn: setting -> value.
        """
        return (*self.fixed, *(f"{key}={drawn[key]}" for key in self.dimensions))

    def examples(self) -> tuple[tuple[str, ...], ...]:
        """Returns the command lines of two trials that could be drawn: of all first values, and of all last ones."""
        ends = {key: _ends(dimension) for key, dimension in self.dimensions.items()}
        return tuple(self.words({key: ends[key][i] for key in ends}) for i in (0, 1))

    def to_json(self) -> dict[str, Any]:
        """Returns what has to be equal for a sweep to be continued."""
        dimensions = {key: _plain(dimension) for key, dimension in self.dimensions.items()}
        return {"fixed": sorted(self.fixed), "searched": dimensions}


def read_search_space(params: Mapping[str, str], words: Sequence[str], *, parser: OverridesParser) -> SearchSpace:
    """Reads the search space of the configuration, and of the command line, which wins.

    Args:
        params: setting -> choice(...), range(...), interval(...), int(interval(...)), each perhaps in tag(log, ...);
            the dictionary `hydra.sweeper.params`.
        words: of the command line; those without a choice are the same in every trial.
        parser: Hydra's.

    Raises:
        ConfigError: if a word cannot be read, nothing is searched, or the seed is.
    """
    dimensions: dict[str, Dimension] = {}
    fixed: dict[str, str] = {}
    for text in (*(f"{key}={value}" for key, value in params.items()), *words):
        override = _parsed(text, parser=parser)
        key = override.get_key_element()
        dimensions.pop(key, None)
        fixed.pop(key, None)
        if override.is_sweep_override():
            dimensions[key] = _dimension(override, text=text)
        else:
            fixed[key] = text
    if SEED in dimensions:
        raise ConfigError(
            "seed cannot be searched: the best of several seeds is luck; search with one seed, then run the best "
            "settings with hydra/sweeper=basic seed=1,2,3"
        )
    if not dimensions:
        raise ConfigError(
            "hydra/sweeper=optuna has nothing to search: give settings a choice, such as 'lora.r=choice(4,8,16)' or "
            "'trainer.lora_learning_rate=tag(log,interval(1e-5,1e-3))', or choose hparams_search=..."
        )
    return SearchSpace(fixed=tuple(fixed.values()), dimensions=dimensions)


def _parsed(text: str, *, parser: OverridesParser) -> Override:
    try:
        (override,) = parser.parse_overrides([text])
    except HydraException as error:
        raise ConfigError(f"{text!r} is not of the form key=value: {str(error).strip().splitlines()[0]}") from error
    return override


def _dimension(override: Override, *, text: str) -> Dimension:
    sweep = override.value()
    assert isinstance(sweep, ChoiceSweep | RangeSweep | IntervalSweep)
    if not sweep.tags <= {LOG} or (sweep.tags and not isinstance(sweep, IntervalSweep)):
        raise ConfigError(f"{text!r}: tag(log, interval(...)) is the only tag that is known")
    if not isinstance(sweep, IntervalSweep):
        values = tuple(dict.fromkeys(override.sweep_string_iterator()))
        if not values:
            raise ConfigError(f"{text!r} holds no value to try")
        return Choices(values=values)
    assert sweep.start is not None
    assert sweep.end is not None
    log, whole = LOG in sweep.tags, isinstance(sweep.start, int)
    if not sweep.start < sweep.end or (log and sweep.start <= 0):
        raise ConfigError(f"{text!r} is no interval: from low to high{', low above 0' if log else ''}")
    return Interval(low=sweep.start, high=sweep.end, log=log, whole=whole)


def _ends(dimension: Dimension) -> tuple[object, object]:
    if isinstance(dimension, Choices):
        return dimension.values[0], dimension.values[-1]
    return (int(dimension.low), int(dimension.high)) if dimension.whole else (dimension.low, dimension.high)


def _plain(dimension: Dimension) -> list[str] | dict[str, float | bool]:
    if isinstance(dimension, Choices):
        return list(dimension.values)
    return {"low": dimension.low, "high": dimension.high, "log": dimension.log, "whole": dimension.whole}
