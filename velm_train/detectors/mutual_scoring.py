"""Feature maps of many images go in; how far each patch lies from the other images comes out (MuSc).

After Li et al. 2024, "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation with Mutual Scoring of the
Unlabeled Images", ICLR, sections 3.2 to 3.4. All patches here have length 1, so that the Euclidean distance of two is
sqrt(2 - 2 cos), and one matrix product of two images gives the nearest patches of both.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

_PRODUCT_CELLS = 2**22
"""Cosines held at a time, 16 MB: they stay in the cache while their largest ones are looked for."""


def normalised_maps(maps: Float[Tensor, "I C h w"]) -> Float[Tensor, "I C h w"]:
    """Returns each map with mean 0 and variance 1 over all channels and places together (section 3.2)."""
    return F.layer_norm(maps, list(maps.shape[1:]))


def averaged_patches(maps: Float[Tensor, "I C h w"], *, side: int) -> Float[Tensor, "I P C"]:
    """Returns patches that know their neighbours: means over a square, each of length 1 (section 3.2).

    Args:
        maps: from `normalised_maps`.
        side: of the square in patches, odd; what lies outside the image counts as zeros.
    """
    averaged = F.avg_pool2d(maps, side, stride=1, padding=side // 2, count_include_pad=True)
    return F.normalize(averaged.flatten(2).transpose(1, 2), dim=2)


def nearest_distances(queries: Float[Tensor, "A P C"], others: Float[Tensor, "B Q C"]) -> Float[Tensor, "A P B"]:
    """Returns the distance of every patch to the nearest patch of each other image.

    Args:
        queries: patches of length 1.
        others: the same.
    """
    distances = queries.new_empty((queries.shape[0], queries.shape[1], others.shape[0]))
    for rows in _blocks(queries):
        for columns in _blocks(others):
            cosines = queries[rows].flatten(0, 1) @ others[columns].flatten(0, 1).T
            cosines = cosines.reshape(-1, queries.shape[1], len(others[columns]), others.shape[1])  # (A, P, B, Q)
            distances[rows, :, columns] = _distances(cosines.amax(dim=3))
    return distances


def mutual_distances(patches: Float[Tensor, "I P C"]) -> Float[Tensor, "I P I"]:
    """Returns the distance of every patch to the nearest patch of each image; each pair is multiplied only once.

    Args:
        patches: of length 1.

    Returns:
        Entry (i, m, j) is patch m of image i against image j; the entries (i, m, i) say nothing.
    """
    num_images, num_patches = patches.shape[:2]
    distances = patches.new_empty((num_images, num_patches, num_images))
    for rows in _blocks(patches):
        for columns in _blocks(patches):
            if columns.start < rows.start:
                continue  # filled with its mirror image
            cosines = patches[rows].flatten(0, 1) @ patches[columns].flatten(0, 1).T
            cosines = cosines.reshape(-1, num_patches, len(patches[columns]), num_patches)  # (I, P, J, P)
            distances[columns, :, rows] = _distances(cosines.amax(dim=1)).permute(1, 2, 0)
            distances[rows, :, columns] = _distances(cosines.amax(dim=3))
    return distances


def lowest_mean(
    distances: Float[Tensor, "A P J"], *, others: Bool[Tensor, "A J"], fraction: float
) -> Float[Tensor, "A P"]:
    """Returns the mean distance of every patch to the images nearest to it (section 3.3, interval average).

    A patch that some images share is normal, however far it lies from the rest. The share is rounded down as in the
    authors' code, but never to no image at all, where theirs divides by zero.

    Args:
        distances: of patches to images.
        others: the images that judge; where there are none, the result is 0.
        fraction: share of them that counts, in (0, 1].
    """
    means = distances.new_zeros(distances.shape[:2])
    for index, judges in enumerate(others):
        found = distances[index][:, judges]  # (P, judges)
        if found.shape[1] > 0:
            count = max(1, int(fraction * found.shape[1]))
            means[index] = torch.topk(found, count, dim=1, largest=False).values.mean(dim=1)
    return means


def rescored(
    scores: Float[Tensor, " I"],
    embeddings: Float[Tensor, "I C"],
    *,
    neighbours: Sequence[int],
    others: Bool[Tensor, "I I"],
) -> Float[Tensor, " I"]:
    """Returns scores averaged over the most similar images (section 3.4, RsCIN), by cosine similarity.

    The authors bring the scores to 0..1 first. The weights of every image sum to 1, so that this changes no order. It
    is left out here, because scores of two batches could not be compared any more.

    Args:
        scores: of the images.
        embeddings: of the images, of any length.
        neighbours: how many images the average is over, the image itself among them, for each of several averages that
            are averaged in turn; none leaves the scores as they are.
        others: which images may be another's neighbours.
    """
    if not neighbours:
        return scores
    unit = F.normalize(embeddings.double(), dim=1)
    cosines = (unit @ unit.T).clamp(0, 1) * others
    cosines.fill_diagonal_(2)  # an image comes first among its own neighbours, even beside a copy of itself
    total = torch.zeros_like(scores, dtype=torch.float64)
    for count in neighbours:
        nearest = torch.topk(cosines, min(count, len(scores)), dim=1)
        weights = nearest.values.clamp(max=1)
        total += (weights * scores.double()[nearest.indices]).sum(dim=1) / weights.sum(dim=1)
    return (total / len(neighbours)).to(scores.dtype)


def _distances(cosines: Tensor) -> Tensor:
    return (2 - 2 * cosines).clamp_min(0).sqrt()


def _blocks(patches: Float[Tensor, "I P C"]) -> Iterator[slice]:
    """Yields ranges of images, so many that the product of two ranges is of bounded size."""
    size = max(1, math.isqrt(_PRODUCT_CELLS) // patches.shape[1])
    for start in range(0, patches.shape[0], size):
        yield slice(start, min(start + size, patches.shape[0]))
