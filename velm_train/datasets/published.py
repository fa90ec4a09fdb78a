"""Published figures on public data sets, each with its source and protocol; facts only, nothing computed here."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedResult:
    """One row of someone else's results: nominal against defective, fractions in 0..1.

    Attributes:
        dataset: the data set's name here.
        model: what was tuned or prompted.
        learning_normals: normal images the method was shown.
        accuracy: over all test images.
        sensitivity: share of defective test images called defective.
        specificity: share of nominal test images called nominal.
        auc: area under the ROC curve of the defect score.
        protocol: learning set, test set and question.
        source: where the figures stand.
    """

    dataset: str
    model: str
    learning_normals: int
    accuracy: float
    sensitivity: float
    specificity: float
    precision: float
    f1: float
    auc: float
    protocol: str
    source: str


_TEXTILE_PROTOCOL = (
    "binary, nominal against defective (local and global together); few-shot by similarity to the learning images, "
    "which are as many defective as nominal ones; one random test set of 100 nominal, 50 local and 50 global images, "
    "drawn once; one run"
)

_TEXTILE_PAPER = "Megahed et al., arXiv 2501.12596 (2025), experiment 3, stochastic textured surfaces"

_L14_FILE = f"{_TEXTILE_PAPER}; results/exp03_aggregated_results.csv of github.com/fmegahed/qe_genai"
_B32_FILE = f"{_TEXTILE_PAPER}; results/exp03_b32_aggregated_results.csv of github.com/fmegahed/qe_genai"


def _textile(model: str, source: str, learning_normals: int, *figures: float) -> PublishedResult:
    """Makes a row from accuracy, sensitivity, specificity, precision, F1 and AUC, in the source's order."""
    accuracy, sensitivity, specificity, precision, f1, auc = figures
    return PublishedResult(
        dataset="textile",
        model=model,
        learning_normals=learning_normals,
        accuracy=accuracy,
        sensitivity=sensitivity,
        specificity=specificity,
        precision=precision,
        f1=f1,
        auc=auc,
        protocol=_TEXTILE_PROTOCOL,
        source=source,
    )


TEXTILE_RESULTS: tuple[PublishedResult, ...] = (
    _textile("CLIP ViT-L/14", _L14_FILE, 10, 0.9, 0.84, 0.96, 0.9545, 0.8936, 0.9828),
    _textile("CLIP ViT-L/14", _L14_FILE, 20, 0.915, 0.85, 0.98, 0.9770, 0.9091, 0.9807),
    _textile("CLIP ViT-L/14", _L14_FILE, 50, 0.975, 0.96, 0.99, 0.9897, 0.9746, 0.9961),
    _textile("CLIP ViT-L/14", _L14_FILE, 100, 0.975, 0.97, 0.98, 0.9798, 0.9749, 0.9949),
    _textile("CLIP ViT-L/14", _L14_FILE, 200, 0.985, 0.98, 0.99, 0.9899, 0.9849, 0.9921),
    _textile("CLIP ViT-L/14", _L14_FILE, 350, 0.97, 0.96, 0.98, 0.9796, 0.9697, 0.9936),
    _textile("CLIP ViT-B/32", _B32_FILE, 10, 0.72, 0.65, 0.79, 0.7558, 0.6989, 0.7540),
    _textile("CLIP ViT-B/32", _B32_FILE, 50, 0.685, 0.66, 0.71, 0.6947, 0.6769, 0.7055),
    _textile("CLIP ViT-B/32", _B32_FILE, 100, 0.705, 0.66, 0.75, 0.7253, 0.6911, 0.7217),
    _textile("CLIP ViT-B/32", _B32_FILE, 350, 0.735, 0.66, 0.81, 0.7765, 0.7135, 0.6937),
)
"""From the authors' result files, rounded to four digits; a selection of the 15 learning sizes from 10 to 350.

    For comparison with a three-way answer, count local and global together as defective.
"""
