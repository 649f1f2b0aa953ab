"""Warnings that point at the line of the user."""

import os
import sys
import warnings

import keras

__all__ = ["warn_user"]

# Frames of these folders are not the user's.
_OURS = tuple(
    os.path.dirname(path) + os.sep for path in (__file__, keras.__file__)
)


def warn_user(message: str) -> None:
    """Warns at the line of the user that called into the package.

    Args:
        message: the rule, what was received, the way out.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_code.co_filename.startswith(_OURS):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
