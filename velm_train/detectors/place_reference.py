"""Distances of some good images, told apart by the part they come from, go in; yardsticks without any part come out.

A yardstick that is out-of-sample for one part must not know it in two ways: its images do not count, and the others are
compared with a bank that lacks it beside their own part. So every patch keeps two distances, the second one without the
part that gave the first. So leaving out a part is as exact as fitting without it, at the cost of one more search.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int

from velm_train.detectors.neighbours import MemoryBank
from velm_train.detectors.patch_features import PatchFeatures
from velm_train.detectors.places import PlaceYardstick
from velm_train.detectors.scores import smoothed

_NUM_GROUPS = 50
"""Parts whose images make a yardstick; more would cost time and change little."""


def reference_images(group_ids: Sequence[str]) -> list[int]:
    """Returns the images that yardsticks are made of, sorted by a hash of their parts.

    The first parts in that order serve, and one more that stands in where one of them is left out. So the choice
    without a part is what it would be if that part had never been there.
    """
    parts = sorted(set(group_ids), key=lambda part: hashlib.sha256(part.encode()).digest())
    members: dict[str, list[int]] = {part: [] for part in parts[: _NUM_GROUPS + 1]}
    for index, part in enumerate(group_ids):
        if part in members:
            members[part].append(index)
    return [index for images in members.values() for index in images]


@dataclass(frozen=True, kw_only=True)
class PlaceReference:
    """Good images, each compared with the bank without its own part.

    Attributes:
        groups: number of each image's part, in the order of `reference_images`.
        nearest: distances to the bank without that part.
        nearest_group: the part that each of these leads to.
        next_nearest: distances to the bank without that one, too; infinite where nothing remains.
        smoothing_sigma: of the Gaussian over a map, in patches.
    """

    groups: Int[np.ndarray, " I"]
    nearest: Float[np.ndarray, "I h w"]
    nearest_group: Int[np.ndarray, "I h w"]
    next_nearest: Float[np.ndarray, "I h w"]
    smoothing_sigma: float

    @staticmethod
    def of(
        images: Iterator[tuple[int, PatchFeatures, Float[torch.Tensor, " L"]]],
        bank: MemoryBank,
        owners: Int[torch.Tensor, " M"],
        *,
        smoothing_sigma: float,
    ) -> "PlaceReference":
        """Compares images with the bank.

        Args:
            images: part, features and layer scales of one image each, in the order of `reference_images`. The scales
                are the image's own, since they may not depend on who is left out.
            bank: of all good images.
            owners: part of each vector of the bank.
            smoothing_sigma: of the Gaussian over a map, in patches.
        """
        groups, found = [], []
        for group, features, scales in images:
            three = bank.nearest_of_two_groups(features.values[0], scales=scales, groups=owners, left_out=group)
            found.append([values.reshape(features.grid_hw).cpu().numpy() for values in three])
            groups.append(group)
        nearest, nearest_group, next_nearest = (np.stack(maps) for maps in zip(*found, strict=True))
        return PlaceReference(
            groups=np.array(groups),
            nearest=nearest,
            nearest_group=nearest_group,
            next_nearest=next_nearest,
            smoothing_sigma=smoothing_sigma,
        )

    def without(self, group: int) -> PlaceYardstick | None:
        """Returns what a fit without a part would take for its yardstick; None where fewer than two parts remain."""
        if group in self.groups or (self.nearest_group == group).any():
            return self._yardstick(np.where(self.nearest_group == group, self.next_nearest, self.nearest), group)
        return self.whole

    @cached_property
    def whole(self) -> PlaceYardstick | None:
        """The yardstick of all parts; None where there are fewer than two."""
        return self._yardstick(self.nearest, None)

    def _yardstick(self, maps: Float[np.ndarray, "I h w"], group: int | None) -> PlaceYardstick | None:
        parts = [part for part in dict.fromkeys(self.groups.tolist()) if part != group][:_NUM_GROUPS]
        kept = maps[np.isin(self.groups, parts)]
        kept = kept[np.isfinite(kept).all(axis=(1, 2))]
        return PlaceYardstick.of(smoothed(kept, self.smoothing_sigma)) if len(kept) else None
