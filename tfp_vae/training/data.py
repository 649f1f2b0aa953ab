"""What `fit` is given, looked at before the first step."""

import itertools
from collections.abc import Iterator
from types import GeneratorType
from typing import Any

import keras
import numpy as np
from keras import ops

__all__ = ["are_arrays", "as_keras_would", "check_finite", "peek", "split"]

# Rows that are tried on the likelihood, beside the two with the extreme values.
_FIRST_ROWS = 2

# How much of the data is looked at for a smallest and a largest value at once.
_BLOCK_BYTES = 2**20


def peek(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """All rows of arrays or the first batch of a pipeline, and the source.

    Args:
        x: arrays, or a pipeline, as `keras.Model.fit` takes them.
        y: targets, when x are arrays.

    Returns:
        Data and targets to look at, and x to train from: another object for a
        generator, of which an item had to be taken.
    """
    if isinstance(x, GeneratorType):
        first = next(x)
        x_seen, y_seen, _ = keras.utils.unpack_x_y_sample_weight(first)
        return x_seen, y_seen, _generator(itertools.chain([first], x))
    if hasattr(x, "shape") or x is None or isinstance(x, (dict, list, tuple)):
        return x, y, x
    first = x[0] if isinstance(x, keras.utils.PyDataset) else next(iter(x))
    x_seen, y_seen, _ = keras.utils.unpack_x_y_sample_weight(first)
    return x_seen, y_seen, x


def _generator(items: Iterator[Any]) -> Iterator[Any]:
    # Keras knows a generator by its type.
    yield from items


def _blocks(array: np.ndarray) -> list[tuple[int, int]]:
    """Bounds of consecutive rows that fit into a processor's cache."""
    rows = max(1, _BLOCK_BYTES // max(array[0].nbytes, 1))
    return [(a, a + rows) for a in range(0, len(array), rows)]


def check_finite(name: str, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """The values as a numpy array, if all are finite, and their telling rows.

    Those are the first rows, and the rows of the smallest and largest value.
    """
    array = _as_numpy(values)
    if not array.size:
        raise ValueError(
            f"There must be data. Received: {name} of shape {array.shape}."
        )
    # numpy finds an extreme several times faster than its place: look for the
    # place in the one block that has it. The extremes also carry any NaN or
    # infinity, and cost no array of booleans.
    blocks = [array[a:b] for a, b in _blocks(array)]
    extremes = np.array([(block.min(), block.max()) for block in blocks])
    if not np.isfinite(extremes).all():
        wrong = ~np.isfinite(array)
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"All data must be finite. Received: {int(wrong.sum())} NaN or "
            f"infinite of {array.size} values in {name}, the first "
            f"({array[place]}) at index {place}. Remove or impute them."
        )
    rows = list(range(min(len(array), _FIRST_ROWS)))
    for find, column in ((np.argmin, 0), (np.argmax, 1)):
        block = int(find(extremes[:, column]))
        start, _ = _blocks(array)[block]
        rows.append(start + int(find(blocks[block])) // max(array[0].size, 1))
    # As many for all data, though two may be one: a pass is compiled for them.
    return array, np.sort(rows)


def _as_numpy(values: Any) -> np.ndarray:
    # Keras would copy an array.
    if isinstance(values, np.ndarray):
        return np.asarray(values)
    return ops.convert_to_numpy(values)


def as_keras_would(values: Any) -> np.ndarray:
    """An array of the dtype that Keras' array adapter gives in `fit`.

    Args:
        values: an array or a tensor.

    Returns:
        A numpy array; of any floating dtype, Keras' own.
    """
    array = _as_numpy(values)
    if "float" in keras.backend.standardize_dtype(array.dtype):
        return array.astype(keras.config.floatx(), copy=False)
    return array


def are_arrays(*data: Any) -> bool:
    """Whether data are arrays or tensors with as many rows each.

    Args:
        *data: x, y and weights, as `fit` takes them; the last ones may be None.

    Returns:
        A bool.
    """
    given = [array for array in data if array is not None]
    return (
        all(isinstance(a, np.ndarray) or ops.is_tensor(a) for a in given)
        and len({len(array) for array in given}) == 1
    )


def split(
    arrays: tuple[Any, ...], validation_split: float
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The first rows to train on and the last ones to validate on.

    Args:
        arrays: x, y and weights, `[N, ...]` each, or None.
        validation_split: the share of the last ones, in (0, 1).

    Returns:
        Two tuples like `arrays`.

    Raises:
        ValueError: if one of the two would have no rows.
    """
    count = len(arrays[0])
    at = int(np.floor(count * (1.0 - validation_split)))
    if not 0 < at < count:
        raise ValueError(
            "Both parts of a validation split must have examples. Received: "
            f"validation_split={validation_split} of {count} examples."
        )

    def part(rows: slice) -> tuple[Any, ...]:
        # x may be its own target, and stay so.
        parts = {id(a): a if a is None else a[rows] for a in arrays}
        return tuple(parts[id(a)] for a in arrays)

    return part(slice(at)), part(slice(at, None))
