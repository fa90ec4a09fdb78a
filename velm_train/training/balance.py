"""What an epoch may be balanced by; kept apart, so that settings are checked without loading a model's library."""

from typing import Literal

Balance = Literal["none", "type", "category", "gate", "hard"]
