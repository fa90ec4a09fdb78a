"""What each protocol decides before any image is looked at: names of categories and types in, a `Plan` out."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

from velm_train.core.errors import DataError
from velm_train.datasets.folds import left_out_categories, unknown_types
from velm_train.datasets.protocol_settings import Plan, ProtocolSettings
from velm_train.datasets.reading import nearest

_OWN_SETTINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "zero_shot": (),
        "k_shot": ("k_shot",),
        "half": (),
        "leave_category_out": ("k_shot", "fold", "num_folds"),
        "cross_dataset": ("k_shot", "train_dataset"),
        "leave_type_out": ("k_shot", "fold", "num_folds"),
    }
)

_NOTHING_UNKNOWN: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def own_settings(protocol: str, settings: ProtocolSettings) -> dict[str, object]:
    """Returns what this protocol reads beside what all do, so that equal splits have equal manifests."""
    return {name: getattr(settings, name) for name in _OWN_SETTINGS[protocol]}


def make_plan(
    protocol: str, types: Mapping[str, Collection[str]], settings: ProtocolSettings, *, seen: Collection[str]
) -> Plan:
    """Returns what the protocol decides about categories and types.

    Args:
        protocol: a key of PROTOCOLS.
        types: of every category.
        settings: of the protocol.
        seen: for cross_dataset the categories of the data set that is trained on; the others do not read it.

    Raises:
        DataError: if an unseen category does not exist, or the folds do not fit.
    """
    everything, given = frozenset(types), frozenset(settings.unseen_categories)
    for name in sorted(given - everything):
        found = sorted(everything)
        raise DataError(f"unseen category {name!r} has no images{nearest(name, found)}; found: {found}")
    if protocol == "zero_shot":
        return _plan(everything, train=0)
    if protocol == "k_shot":
        return _plan(given, train=settings.k_shot)
    if protocol == "half":
        return _plan(given, train="half")
    if protocol == "leave_type_out":
        known = {category: types[category] for category in sorted(everything - given)}
        unknown = unknown_types(known, fold=settings.fold, num_folds=settings.num_folds)
        return _plan(given, train=settings.k_shot, unknown=unknown)
    if protocol == "leave_category_out":
        unseen = left_out_categories(everything - given, fold=settings.fold, num_folds=settings.num_folds)
    else:
        assert protocol == "cross_dataset", protocol
        unseen = everything - frozenset(seen)
    return Plan(
        unseen=given | unseen,
        untested=everything - given - unseen,
        unknown={},
        train=settings.k_shot or "all",
        test_first=True,
    )


def _plan(
    unseen: frozenset[str], *, train: int | Literal["half"], unknown: Mapping[str, tuple[str, ...]] = _NOTHING_UNKNOWN
) -> Plan:
    """Returns the plan of a protocol that tests every category."""
    return Plan(unseen=unseen, untested=frozenset(), unknown=unknown, train=train, test_first=False)
