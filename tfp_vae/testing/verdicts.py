"""The possible results of a check."""

from typing import Any

import numpy as np

__all__ = ["NotApplicable", "Violation", "require"]


class Violation(AssertionError):  # noqa: N818 (what a check finds)
    """The distribution breaks a rule."""


class NotApplicable(Exception):  # noqa: N818 (no error: a check steps back)
    """A check does not apply to this distribution."""


def require(condition: Any, rule: str, received: str) -> None:
    """Raises a `Violation` unless a condition holds everywhere.

    Args:
        condition: a bool, or an array of them.
        rule: what must hold.
        received: what was found instead, and where.
    """
    if not np.all(condition):
        raise Violation(f"{rule}. Received: {received}.")
