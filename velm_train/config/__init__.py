"""The typed configuration: one dataclass per group of `conf/`, checked when made; nothing below `cli` sees it.

Every field's line states its unit and range. Values come from `conf/`; there are no defaults here, so that a
setting missing from `conf/` is an error and not a silent choice.
"""

from velm_train.config.root import Config

__all__ = ["Config"]
