"""What may be said of the feature cache; kept apart, so that settings are checked without loading a model's library."""

from typing import Literal

FeatureCache = Literal["auto", "on", "off"]
"""Whether features are stored: where the disk has room for them, in any case, or never."""
