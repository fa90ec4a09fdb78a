"""One spelling for VisA's labels: a label as its table writes it goes in, the name of a defect type comes out."""

import re
from collections.abc import Mapping

from velm_train.core.errors import DataError

SPELLINGS: Mapping[str, str] = {
    "color": "colour",
    "melded": "melted",
    "particals": "particles",
}
"""Words that VisA spells wrongly, or in two ways, to the spelling used here.

Source: the class names of amazon-science/spot-diff, `utils/id2class.py`: "Foreign Particals on Candle", "Wax Melded out
of the candle", and "Different Color spot" in macaroni2 beside "Different Colour Spot" in the other categories.
"""

_SEPARATORS = re.compile(r"[\s/_-]+")
_LABEL = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def canonical_label(raw: str) -> str:
    """Returns one label of VisA's annotation table as a defect type: `Different Color spot` -> `different-colour-spot`.

    Lower case; blanks, slashes and underscores become hyphens; each word is spelt as in SPELLINGS. A canonical label
    stays as it is.

    Args:
        raw: one label; a cell that lists several is split at its commas first.

    Raises:
        DataError: if nothing is left, or the label holds anything but letters, digits and separators.
    """
    words = _SEPARATORS.sub("-", raw.lower()).strip("-").split("-")
    label = "-".join(SPELLINGS[word] if word in SPELLINGS else word for word in words)
    if not _LABEL.fullmatch(label):
        raise DataError(f"VisA label {raw!r} is not one label; letters, digits, blanks, slashes and hyphens may occur")
    return label
