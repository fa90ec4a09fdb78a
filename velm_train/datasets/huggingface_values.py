"""Single fields of a Hugging Face data set: labels in, names out; stored pictures in, bytes out."""

import io
from dataclasses import dataclass
from pathlib import Path

from datasets import ClassLabel
from PIL import Image, UnidentifiedImageError

from velm_train.core.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """How the fields of a label column read.

    Attributes:
        class_names: name of every class number, or None if the fields are names or numbers themselves.
    """

    class_names: tuple[str, ...] | None

    def names(self, value: object, *, where: str) -> list[str]:
        """Returns the names in one field: one, or those of a list.

        Raises:
            DataError: if the field is empty or is a number without a name.
        """
        values = value if isinstance(value, list) else [value]
        return [self._name(one, where=where) for one in values]

    def _name(self, value: object, *, where: str) -> str:
        if self.class_names is not None:
            if not isinstance(value, int) or not 0 <= value < len(self.class_names):
                raise DataError(f"{where} is {value!r}, which is no class; classes: {', '.join(self.class_names)}")
            return self.class_names[value]
        name = str(value).strip() if isinstance(value, str | int) else ""
        if not name:
            raise DataError(f"{where} is {value!r}; a name or a number is expected")
        return name


def read_labels(feature: object) -> Labels:
    """Returns how a column's fields read, from its feature; a list's from that of its entries."""
    inner = feature.feature if hasattr(feature, "feature") else feature
    if isinstance(inner, list):
        inner = inner[0]
    return Labels(class_names=tuple(inner.names) if isinstance(inner, ClassLabel) else None)


def picture_bytes(value: object, *, where: str) -> bytes | None:
    """Returns a stored picture's bytes, or those of the file that it names; None for an empty field.

    Args:
        value: a field of a picture column that is not decoded.
        where: place of the field, for messages.

    Raises:
        DataError: if the file cannot be read.
    """
    if value is None:
        return None
    assert isinstance(value, dict), value
    content, path = value["bytes"], value["path"]
    if content is not None:
        return bytes(content)
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{where}: picture {path} cannot be read ({error.strerror})") from error


def picture_suffix(content: bytes) -> str:
    """Returns the suffix of a picture's format, such as `.png`, or `.unknown` for bytes that are no picture."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return f".{str(image.format).lower()}"
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return ".unknown"
