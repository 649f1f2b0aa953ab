"""Conditions as one row for each example."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.models.conditions import Entry, fits_entry
from tfp_vae.substrate import Tensor

__all__ = ["as_rows"]


def as_rows(
    name: str,
    value: Any,
    rows: Any,
    entry: Entry | None,
    check: bool = True,
) -> Tensor:
    """A condition as one row for each example.

    Args:
        name: of the condition.
        value: `[rows, ...]`, or one value for all.
        rows: how many there are to be.
        entry: what the model was built for, or None if that is not known.
        check: whether several rows must be so many.

    Returns:
        `[rows, ...]`.

    Raises:
        TypeError: if it is not numeric.
        ValueError: if it has another number of rows or another shape.
    """
    if not ops.is_tensor(value):
        value = np.asarray(value)
        if value.dtype.kind not in "biuf":
            raise TypeError(
                f"A condition is a number or an array. Received: {name} of "
                f"dtype {value.dtype}. Encode it as numbers."
            )
        floats = value.dtype.kind == "f"
        dtype = entry.dtype if entry is not None else None
        if floats and (dtype is None or "float" not in dtype):
            dtype = keras.config.floatx()
        value = ops.convert_to_tensor(value, dtype)
    if entry is None:
        if not value.shape:
            return ops.broadcast_to(value, (rows,))
        event = tuple(value.shape)[1:]
    else:
        _check_dtype(name, value, entry)
        event = entry.shape[1:]
        value = _in_rank_of(value, entry)
    shape = tuple(value.shape)
    if len(shape) <= len(event):
        sizes = tuple(map(_known_size, event, _last(shape, event)))
        if not _broadcasts(shape, sizes):
            raise ValueError(_wrong(name, shape, rows, event))
        return ops.broadcast_to(value, (rows, *sizes))
    is_other = isinstance(rows, int) and shape[0] not in (None, rows)
    if (check and is_other) or not fits_entry(shape, (None, *event)):
        raise ValueError(_wrong(name, shape, rows, event))
    return value


def _check_dtype(name: str, value: Tensor, entry: Entry) -> None:
    dtype = keras.backend.standardize_dtype(value.dtype)
    if "float" in dtype and "float" not in entry.dtype:
        raise TypeError(
            f"The model takes {name!r} as {entry.dtype}: fractions would be "
            f"lost. Received: {dtype}. Give {name} as {entry.dtype}."
        )


def _in_rank_of(value: Tensor, entry: Entry) -> Tensor:
    """With the last dimension of 1 that Keras adds to an input, or drops."""
    shape = tuple(value.shape)
    if shape == (1,) or not fits_entry(shape, entry.shape):
        return value
    if len(shape) < len(entry.shape):
        return value[..., None]
    return value[..., 0] if len(shape) > len(entry.shape) else value


def _broadcasts(shape: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, sizes) == sizes
    except ValueError:
        return False


def _known_size(size: int | None, received: int) -> int:
    return received if size is None else size


def _last(shape: tuple[int, ...], event: tuple[Any, ...]) -> tuple[int, ...]:
    """A shape with ones before it, of the rank of an event."""
    return (*[1] * (len(event) - len(shape)), *shape)


def _wrong(name: str, shape: Any, rows: Any, event: Any) -> str:
    return (
        f"A condition has one row for each example, or is one value for all. "
        f"Received: {name} of shape {tuple(shape)}, for {rows} examples. Give "
        f"{(rows, *event)}, or one value of shape {tuple(event)}."
    )
