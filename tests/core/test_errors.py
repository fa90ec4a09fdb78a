"""Every error that a user can mend is a VelmError, and a ValueError for library users."""

import inspect

from velm_train.core import errors


def test_every_error_is_a_velm_error() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert len(kinds) == 10
    assert all(issubclass(kind, errors.VelmError) and issubclass(kind, ValueError) for kind in kinds)
