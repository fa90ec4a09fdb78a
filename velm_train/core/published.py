"""What was said about labelled images in plain words, and what the evaluation released with VELM makes of it."""

from dataclasses import dataclass

from velm_train.core.scores import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledAnswer:
    """One image's true label and the label that was given, both as words; a word that is on no list stays one.

    Attributes:
        gt_label: the true type, or "good".
        pred_label: the type given, "good", or whatever else was said.
    """

    image_id: str
    category: str
    gt_label: str
    pred_label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedCategory:
    """One category's figures, over all its images, normal ones included."""

    category: str
    num_images: int
    accuracy: float
    macro_f1: float
    kappa: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedScores:
    """Accuracy, macro-F1 and Cohen's kappa as VELM's tables have them: means over categories.

    Attributes:
        foreign_labels: labels that were given, but are the truth of no image of their category: every one of them is
            a class with an F1 of zero in `macro_f1`.
    """

    accuracy: Score
    macro_f1: Score
    kappa: Score
    categories: tuple[PublishedCategory, ...]
    foreign_labels: tuple[str, ...]
