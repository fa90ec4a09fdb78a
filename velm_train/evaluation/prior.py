"""Predictions and the model's word on a blank picture go in; answers without the words' own likelihood come out.

A language model finds some names likelier than others whatever it is shown. Subtracting what it says to a blank
picture leaves what the picture adds:

    argmax over options of  log p(option | picture) - log p(option | blank)

(Zhao et al., ICML 2021, section 4, with a blank picture for the content-free input; Holtzman et al., EMNLP 2021,
section 2, domain conditional mutual information.) No label has a part in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scipy.special import logsumexp

from velm_train.core.errors import DataError
from velm_train.core.records import Prediction

OptionTypes = Mapping[str, str | None]
"""Option as shown -> the type it stands for; "good" for "no defect", None for "none of these"."""


def blank_priors(blank: Sequence[Prediction]) -> dict[str, dict[str, float]]:
    """Returns category -> option -> log-probability among the options, given the blank picture.

    Args:
        blank: rows of an image-blind run; all flagged rows of one category say the same.

    Raises:
        DataError: if two rows of one category differ, so that the pictures cannot all have been blank.
    """
    priors: dict[str, dict[str, float]] = {}
    for row in blank:
        if not row.option_log_likelihoods:
            continue
        total = float(logsumexp(list(row.option_log_likelihoods.values())))
        prior = {answer: value - total for answer, value in row.option_log_likelihoods.items()}
        if priors.setdefault(row.category, prior) != prior:
            raise DataError(
                f"{row.image_id}: the blank picture gives other likelihoods than before in {row.category!r}; "
                "take the rows of one image-blind run"
            )
    return priors


def prior_corrected(
    rows: Sequence[Prediction], priors: Mapping[str, Mapping[str, float]], *, types: Mapping[str, OptionTypes]
) -> list[Prediction]:
    """Returns the rows with corrected log-likelihoods and the types they name; rows that asked nothing stay.

    The region that names an image stays the one of the uncorrected run.

    Args:
        rows: of a closed-list run.
        priors: of `blank_priors`, from the same model and options.
        types: category -> what each option stands for.

    Raises:
        DataError: if a category has no prior, or other options than its prior.
    """
    return [_corrected(row, priors, types) if row.option_log_likelihoods else row for row in rows]


def _corrected(
    row: Prediction, priors: Mapping[str, Mapping[str, float]], types: Mapping[str, OptionTypes]
) -> Prediction:
    if row.category not in priors:
        raise DataError(f"{row.image_id}: no blank picture was asked about in {row.category!r}; ask one in each")
    prior = priors[row.category]
    if set(prior) != set(row.option_log_likelihoods):
        odd = sorted(set(prior) ^ set(row.option_log_likelihoods))
        raise DataError(f"{row.image_id}: the options differ from those asked with a blank picture: {odd}")
    corrected = {answer: value - prior[answer] for answer, value in row.option_log_likelihoods.items()}
    best = max(sorted(corrected), key=lambda answer: corrected[answer])
    return replace(row, option_log_likelihoods=corrected, pred_defect_type=types[row.category][best])
