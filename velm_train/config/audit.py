"""Settings for the audit of the data, which every task that uses images runs."""

from dataclasses import dataclass

from velm_train.config.checks import at_least, require


@dataclass(kw_only=True, slots=True)
class AuditConfig:
    """What to look for, and what the user has looked at and allows.

    Attributes:
        near_duplicates: whether to look for one picture in several files; equal bytes are always looked for.
        allow: ids of findings, such as dup-3fa91c, that training may start with; every report names them.
        extra_folders: folders of images that the model may have seen elsewhere; none of the tested images may be there.
        max_thumbnails: pictures on the page, 0 or more; the rest of a finding's images is named.
    """

    near_duplicates: bool
    allow: list[str]
    extra_folders: list[str]
    max_thumbnails: int

    def __post_init__(self) -> None:
        """Checks the values."""
        at_least("audit.max_thumbnails", self.max_thumbnails, 0)
        for key in ("allow", "extra_folders"):
            values = getattr(self, key)
            require(len(set(values)) == len(values), key=f"audit.{key}", got=values, allowed="each once")
