"""The names of the formats that samples are exported to; apart, so that checking a setting loads no library."""

from typing import Literal, get_args

FormatName = Literal["anomaly_instruct", "sharegpt", "hf_datasets"]
FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)
