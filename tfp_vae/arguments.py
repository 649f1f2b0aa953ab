"""Checks of plain Python arguments: numbers, sizes, choices."""

import numbers
from collections.abc import Sequence
from typing import Any

__all__ = [
    "canonical_event_shape",
    "check_min_scale",
    "check_num_components",
    "check_one_of",
    "check_positive_int",
    "check_steps",
    "check_weight",
    "is_positive_number",
    "is_weight",
    "vector_size",
]


def check_positive_int(name: str, value: Any) -> int:
    """Refuses what is not a whole number of at least one.

    Args:
        name: of the argument.
        value: of the argument.

    Returns:
        `value`.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, bool) or not (
        isinstance(value, numbers.Integral) and int(value) >= 1
    ):
        raise ValueError(f"{name} is an int >= 1. Received: {name}={value!r}.")
    return int(value)


def check_one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """Refuses a value that is not one of the choices.

    Args:
        name: of the argument.
        value: of the argument.
        choices: what it may be.

    Returns:
        `value`.

    Raises:
        ValueError: for anything else.
    """
    if value not in choices:
        *first, last = (f'"{choice}"' for choice in choices)
        raise ValueError(
            f"{name} is one of {', '.join(first)} and {last}. Received: "
            f"{name}={value!r}."
        )
    return value


def is_weight(value: Any) -> bool:
    """Whether a value is a finite number >= 0.

    Args:
        value: anything.

    Returns:
        A bool.
    """
    return isinstance(value, numbers.Real) and 0 <= float(value) < float("inf")


def canonical_event_shape(event_shape: Any) -> tuple[int, ...]:
    """An event shape as a tuple of sizes.

    Args:
        event_shape: an int for vectors, `()` for scalars, or a tuple of ints.

    Returns:
        A tuple of non-negative ints.

    Raises:
        ValueError: for anything else.
    """
    try:
        shape = (
            (int(event_shape.__index__()),)
            if hasattr(event_shape, "__index__")
            else tuple(int(size.__index__()) for size in event_shape)
        )
    except (AttributeError, TypeError):
        shape = None
    if shape is None or isinstance(event_shape, bool) or min((*shape, 1)) < 1:
        raise ValueError(
            "An event shape is a positive int, or a tuple of positive ints, "
            f"such as (28, 28, 1). Received: event_shape={event_shape!r}."
        )
    return shape


def is_positive_number(value: Any) -> bool:
    """Whether a value is a finite number above zero, of Python or numpy.

    Args:
        value: anything.

    Returns:
        A bool; booleans are not numbers here.
    """
    return (
        isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and 0 < float(value) < float("inf")
    )


def check_min_scale(min_scale: Any) -> float:
    """Refuses a floor that would let a scale be zero or negative.

    Args:
        min_scale: the argument of a layer.

    Returns:
        The floor as a float.

    Raises:
        ValueError: unless it is a finite number above zero.
    """
    if not is_positive_number(min_scale):
        raise ValueError(
            "min_scale is the floor that keeps a density bounded: a positive "
            f"number. Received: min_scale={min_scale!r}."
        )
    return float(min_scale)


def check_num_components(num_components: Any) -> int:
    """Refuses what is not a number of components.

    Args:
        num_components: the argument of a mixture.

    Returns:
        A positive int.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(num_components, bool) or not (
        isinstance(num_components, int) and num_components >= 1
    ):
        raise ValueError(
            "A mixture has a whole number of components, at least one. "
            f"Received: num_components={num_components!r}."
        )
    return num_components


def vector_size(event_size: int) -> int:
    """The length of a vector, from its event size.

    Args:
        event_size: the argument of a layer.

    Returns:
        A positive int.

    Raises:
        ValueError: for anything else.
    """
    shape = canonical_event_shape(event_size)
    if len(shape) != 1:
        raise ValueError(
            "A distribution over vectors takes their size. Received: "
            f"event_size={event_size!r}."
        )
    return shape[0]


def check_steps(name: str, value: Any) -> float:
    """Refuses what is not a number of training steps.

    Args:
        name: of the argument.
        value: of the argument.

    Returns:
        `value` as a float.

    Raises:
        ValueError: unless it is a finite number above zero.
    """
    if not is_positive_number(value):
        raise ValueError(
            f"`{name}` is a number of training steps (batches), above zero. "
            f"Received: {name}={value!r}."
        )
    return float(value)


def check_weight(name: str, value: Any) -> float:
    """Refuses what is not a weight.

    Args:
        name: of the argument.
        value: of the argument.

    Returns:
        `value` as a float.

    Raises:
        ValueError: unless it is a finite number >= 0.
    """
    if not is_weight(value):
        raise ValueError(
            f"`{name}` is a weight, finite and not negative. Received: "
            f"{name}={value!r}."
        )
    return float(value)
