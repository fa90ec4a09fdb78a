"""How prompts are worded: views, options and descriptions in, short lines of text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from velm_train.core.errors import ConfigError
from velm_train.core.records import Option, View, ViewKind
from velm_train.core.taxonomy import CategoryTaxonomy

IMAGE_PLACEHOLDER = "<image>"
"""Stands for the next view in a message's text."""

VIEW_LABELS: Mapping[ViewKind, str] = {
    "reference": "Normal",
    "query": "Part",
    "query_contour": "Marked",
    "crop": "Detail",
}
"""What a view is called when a prompt shows several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wording:
    """How much the text of training prompts varies.

    Attributes:
        paraphrase_probability: chance of another template than the first, 0..1.
        synonym_probability: chance of each option to be shown by a synonym, 0..1.
        with_descriptions: True to put the taxonomy's descriptions before the options.
    """

    paraphrase_probability: float
    synonym_probability: float
    with_descriptions: bool

    def __post_init__(self) -> None:
        """Checks that the chances are chances."""
        require_probability("paraphrase_probability", self.paraphrase_probability)
        require_probability("synonym_probability", self.synonym_probability)


def require_probability(name: str, value: float) -> None:
    """Refuses a chance outside 0..1.

    Raises:
        ConfigError: naming the setting and its value.
    """
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} is {value}; a probability lies in 0..1")


def view_lines(views: Sequence[View]) -> str:
    """Returns one placeholder line per view, labelled if there are several."""
    if len(views) == 1:
        return f"{IMAGE_PLACEHOLDER}\n"
    return "".join(f"{VIEW_LABELS[view.kind]}: {IMAGE_PLACEHOLDER}\n" for view in views)


def option_list(options: Sequence[Option]) -> str:
    """Returns the options as they are read: separated by commas, in order."""
    return ", ".join(option.answer for option in options)


def description_lines(category: CategoryTaxonomy, options: Sequence[Option]) -> str:
    """Returns what a good part and each listed type look like, in the options' order; empty ones are left out."""
    lines = [f"Good {category.noun}: {category.normal_description}"] if category.normal_description else []
    for option in options:
        if option.defect_type is None or option.defect_type not in category.defect_types:
            continue  # the special options need no description
        description = category.defect_types[option.defect_type].description
        if description:
            lines.append(f"{option.answer}: {description}")
    return "".join(f"{line}\n" for line in lines)


def draw_template(templates: Sequence[str], *, paraphrase_probability: float, rng: np.random.Generator) -> str:
    """Returns the first template, or with the given probability one of the others."""
    paraphrases = templates[1:]
    if paraphrases and rng.random() < paraphrase_probability:
        return paraphrases[int(rng.integers(len(paraphrases)))]
    return templates[0]
