"""Errors that a user, a file or a setting can cause; `cli` turns each into one line and exit status 2."""


class VelmError(ValueError):
    """Base of every error a user can mend; the message says what was got, what is allowed, what to do."""


class ConfigError(VelmError):
    """A setting is unknown, of the wrong type, impossible, or in conflict with another."""


class DataError(VelmError):
    """A dataset folder, an image, a mask or a taxonomy is not as it has to be."""


class LeakError(DataError):
    """The same pixels or the same part would be on both sides of a split."""


class GateError(VelmError):
    """The gate cannot be calibrated as asked, or leaves nothing to work with."""


class AssetError(VelmError):
    """A pinned weight or image file cannot be fetched, verified or converted."""


class ArtifactError(VelmError):
    """An artefact on disk is stale, damaged, or of another schema version."""


class ExportError(VelmError):
    """An exported model does not answer like the one it was made from."""


class ResourceError(VelmError):
    """The machine lacks disk, memory or a permission that the next step needs."""


class DiskFullError(ResourceError):
    """The disk is full, or what is to be written would fill it."""
