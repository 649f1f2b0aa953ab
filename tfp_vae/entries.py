"""Data that are more than one array: `{"x": images, "label": labels}`.

The likelihood is the density of `"x"`; every other entry is a condition. An
array alone is x without conditions.
"""

import inspect
from collections.abc import Callable
from typing import Any

from tfp_vae.samples import copies
from tfp_vae.substrate import Tensor

__all__ = ["accepted", "conditions_of", "repeated", "with_x", "x_of"]

# Names that have another meaning in methods of a model, or in its parts.
_RESERVED = (
    "z",
    "observed",
    "n",
    "seed",
    "mean",
    "training",
    "mask",
    "encoder",
    "posterior",
    "self",
)


def x_of(data: Any) -> Any:
    """The data of the likelihood.

    Args:
        data: an array, or a dict of arrays.

    Returns:
        The array, or the entry `"x"`.

    Raises:
        ValueError: if there is no such entry.
    """
    if not isinstance(data, dict):
        return data
    if "x" not in data:
        raise ValueError(
            'Data in a dict have the entry "x", the data of the likelihood, '
            "and conditions. Received: the entries "
            f"{sorted(map(str, data))}. Give "
            '{"x": images, "label": labels}.'
        )
    return data["x"]


def conditions_of(data: Any) -> dict[str, Any]:
    """The conditions, by name.

    Args:
        data: an array, or a dict of arrays.

    Returns:
        All entries except `"x"`.

    Raises:
        ValueError: if a name has another meaning.
    """
    if not isinstance(data, dict):
        return {}
    for name in data:
        if name in _RESERVED or not str(name).isidentifier():
            raise ValueError(
                "A condition has a name that can be an argument, and is not "
                f"one of {', '.join(_RESERVED[:-1])}. Received: {name!r}. Give "
                "the entry another name."
            )
    return {name: value for name, value in data.items() if name != "x"}


def with_x(data: Any, x: Any) -> Any:
    """Data of the same conditions, with another x.

    Args:
        data: an array, or a dict of arrays.
        x: an array.

    Returns:
        An array, or a dict of arrays.
    """
    return {**data, "x": x} if isinstance(data, dict) else x


def repeated(
    conditions: dict[str, Tensor], samples: int | None
) -> dict[str, Tensor]:
    """Conditions for a batch of `[S * B]`, sample by sample.

    Args:
        conditions: each `[B, ...]`.
        samples: S, or None for one batch without samples.

    Returns:
        Each `[S * B, ...]`.
    """
    if samples is None:
        return conditions
    return {name: copies(c, samples) for name, c in conditions.items()}


def accepted(
    function: Callable[..., Any], conditions: dict[str, Any]
) -> dict[str, Any]:
    """The conditions for which a function has arguments.

    Args:
        function: a method of a model, which a subclass may have overridden.
        conditions: by name.

    Returns:
        Those among them that it takes.
    """
    if not conditions:
        return {}
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return conditions
    return {n: c for n, c in conditions.items() if n in parameters}
