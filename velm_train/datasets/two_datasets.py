"""Checks records of two data sets before one is trained on and the other tested."""

import dataclasses
from collections.abc import Sequence

from velm_train.core.errors import DataError, LeakError
from velm_train.core.records import ImageRecord
from velm_train.datasets.reading import nearest


def require_two_datasets(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Returns the records with groups that are told apart by data set.

    Raises:
        DataError: if there are not two data sets, or the two share category names or the content of an image.
    """
    datasets = sorted({record.dataset for record in records})
    if len(datasets) != 2:
        raise DataError(f"cross_dataset needs images of two data sets; found {len(datasets)}: {datasets}")
    one, other = ([record for record in records if record.dataset == name] for name in datasets)
    shared = sorted({record.category for record in one} & {record.category for record in other})
    if shared:
        raise DataError(
            f"data sets {datasets[0]!r} and {datasets[1]!r} both have categories named {', '.join(shared)}; rename the "
            "folders of one of them"
        )
    _refuse_shared_content(one, other)
    return [_with_own_group(record) for record in records]


def train_categories(records: Sequence[ImageRecord], *, train_dataset: str | None) -> frozenset[str]:
    """Returns the categories of the data set that is trained on.

    Raises:
        DataError: if it is not among the records, with the nearest spelling.
    """
    datasets = sorted({record.dataset for record in records})
    if train_dataset not in datasets:
        hint = nearest(train_dataset, datasets) if train_dataset else ""
        raise DataError(f"train_dataset is {train_dataset!r}{hint}; the data sets read are {datasets}")
    return frozenset(record.category for record in records if record.dataset == train_dataset)


def _refuse_shared_content(one: Sequence[ImageRecord], other: Sequence[ImageRecord]) -> None:
    first = {record.sha256: record.image_id for record in one}
    twins = sorted((first[record.sha256], record.image_id) for record in other if record.sha256 in first)
    if twins:
        raise LeakError(
            f"{twins[0][0]} and {twins[0][1]} are the same picture (one of {len(twins)} pairs); a data set cannot be "
            "trained on and tested on under two names"
        )


def _with_own_group(record: ImageRecord) -> ImageRecord:
    if record.group_id == record.image_id:
        return record
    return dataclasses.replace(record, group_id=f"{record.dataset}/{record.group_id}")
