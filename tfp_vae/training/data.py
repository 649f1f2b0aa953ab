"""The data for `fit`, checked before the first step."""

import itertools
import math
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

__all__ = [
    "Data",
    "Seen",
    "as_keras_would",
    "check_finite",
    "first_fractional_row",
    "look",
    "observed",
    "peek",
]

# Rows that are tried in the model, besides the two with the extreme values.
_FIRST_ROWS = 2

# How much of the data is searched at once for a smallest and a largest value.
_BLOCK_BYTES = 2**20

# Fewer columns than these are reduced several rows at a time: numpy is slow for
# short rows.
_WIDE = 1024

# NumPy's kinds of values that are not numbers: strings, objects, dates.
_NO_NUMBERS = "OUSMm"


class Seen(NamedTuple):
    """Data, and the results of one pass over all their values.

    Attributes:
        array: the data, `[N, *event]`.
        low: the smallest value of each column of the flat event.
        high: the largest ones.
        rows: the numbers of four rows: the first two, and those of the smallest
            and the largest value of all.
        missing: what marks elements that are missing, or None. Then `low` and
            `high` are those of the observed values, NaN where there are none.
    """

    array: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray
    missing: float | None = None

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """Rows with NaN where they are missing."""
        return _with_nan(rows, self.missing)

    def marked(self, rows: np.ndarray) -> np.ndarray:
        """Rows with the marker in place of NaN."""
        if self.missing is None or np.isnan(self.missing):
            return rows
        return np.where(np.isnan(rows), self.missing, rows)

    def flat(self, rows: Any) -> np.ndarray:
        """Rows with their event as one dimension, of columns."""
        chosen = self.array[rows]
        return chosen.reshape(len(chosen), -1)

    def column(self, column: int) -> np.ndarray:
        """All values of one column of the flat event."""
        place = np.unravel_index(column, self.array.shape[1:])
        index = (slice(None), *place)
        return self.array[index]


def peek(x: Any, y: Any) -> tuple[Any, Any, Any]:
    """All rows of arrays or the first batch of a pipeline, and the source.

    Args:
        x: arrays, or a pipeline, as `keras.Model.fit` takes them.
        y: targets, when x are arrays.

    Returns:
        Data and targets to check, and x to train from: another object for a
        generator, since an item was taken from it.
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


def observed(array: np.ndarray, missing: float | None) -> np.ndarray:
    """Which elements are not marked as missing.

    Args:
        array: of any shape.
        missing: the marker, NaN among others, or None.

    Returns:
        Bools of the shape of the array.
    """
    if missing is None:
        return np.ones(array.shape, bool)
    return array == array if np.isnan(missing) else array != missing


def _with_nan(array: np.ndarray, missing: float | None) -> np.ndarray:
    if missing is None or (np.isnan(missing) and array.dtype.kind == "f"):
        return array
    return np.where(observed(array, missing), array, np.nan)


def _columns_extremes(
    rows: np.ndarray, least: Callable[..., Any], most: Callable[..., Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest value of each column."""
    count, width = rows.shape
    at_once = max(1, _WIDE // max(width, 1))
    whole = count - count % at_once
    if at_once == 1 or not whole:
        return least(rows), most(rows)
    wide = rows[:whole].reshape(-1, at_once * width)
    rest = rows[whole:]
    low, high = (
        np.concatenate([extreme.reshape(at_once, width), rest])
        for extreme in (least(wide), most(wide))
    )
    return least(low), most(high)


def look(
    name: str,
    values: Any,
    way_out: str = "Remove or impute them",
    missing: float | None = None,
) -> Seen:
    """Checks all values once.

    Args:
        name: what they are, for the error.
        values: `[N, *event]`, an array or a tensor.
        way_out: advice for values that are not finite.
        missing: what marks elements that are missing, or None.

    Returns:
        The values as a numpy array, with their extremes and the four rows.

    Raises:
        TypeError: if they are not an array of numbers.
        ValueError: if there are none, or not all are finite.
    """
    array = _as_numpy(_check_array(name, values))
    if array.dtype.kind in _NO_NUMBERS:
        raise TypeError(
            f"All data must be numbers. Received: {name} of dtype "
            f"{array.dtype}. Encode strings and objects as numbers, or, if "
            f'they are numbers already, {name}.astype("float32").'
        )
    if not array.size:
        raise ValueError(
            f"There must be data. Received: {name} of shape {array.shape}."
        )
    # numpy finds an extreme several times faster than its place: search for the
    # place only in the block that has it. The extremes also carry any NaN or
    # infinity, and need no array of booleans.
    bounds = _blocks(array)
    low = high = None
    is_bad = False
    ends = []
    # The first two functions pass a NaN on, the others leave it out.
    least, most = np.minimum.reduce, np.maximum.reduce
    if missing is not None:
        least, most = np.fmin.reduce, np.fmax.reduce
    for a, b in bounds:
        block = _with_nan(array[a:b], missing)
        lows, highs = _columns_extremes(
            block.reshape(len(block), -1), least, most
        )
        ends.append((least(lows), most(highs)))
        low = lows if low is None else least([low, lows])
        high = highs if high is None else most([high, highs])
        # If the marker is another number, a NaN is an error as usual.
        is_bad |= missing == missing and bool(
            (np.isnan(block) & observed(array[a:b], missing)).any()
        )
    extremes = np.array(ends)
    if missing is None:
        is_bad = not np.isfinite(extremes).all()
    elif is_bad or np.isinf(extremes).any():
        is_bad = True
    if is_bad:
        wrong = ~np.isfinite(array) & observed(array, missing)
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"All data must be finite. Received: {int(wrong.sum())} NaN or "
            f"infinite of {array.size} values in {name}, the first "
            f"({array[place]}) at index {place}. {way_out}."
        )
    # Always the same number, even for one row: likelihoods need it.
    rows = [min(row, len(array) - 1) for row in range(_FIRST_ROWS)]
    for find, column in ((np.argmin, 0), (np.argmax, 1)):
        block = extremes[:, column]
        if missing is not None:
            block = _without_nan(block, find)
        start, end = bounds[int(find(block))]
        block = array[start:end]
        if missing is not None:
            block = _without_nan(_with_nan(block, missing), find)
        at = int(find(block))
        rows.append(start + at // max(array[0].size, 1))
    # The same number for all data, maybe repeated: a pass is compiled for it.
    return Seen(array, low, high, np.sort(rows), missing)


def _without_nan(values: np.ndarray, find: Any) -> np.ndarray:
    """Values in which `find`, a search for an extreme, finds no NaN."""
    end = np.inf if find is np.argmin else -np.inf
    return np.where(np.isnan(values), end, values)


def check_finite(
    name: str, values: Any, missing: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The values as a numpy array, if all are finite, and four of their rows.

    Those are the first rows, and the rows of the smallest and largest value.
    """
    seen = look(name, values, missing=missing)
    return seen.array, seen.rows


def first_fractional_row(
    array: np.ndarray, columns: np.ndarray | None
) -> int | None:
    """The first row with a value between two whole numbers.

    Args:
        array: `[N, *event]`.
        columns: the columns of the flat event to check; None for all.

    Returns:
        Its index, or None.
    """
    if array.dtype.kind in "iub":
        return None
    for a, b in _blocks(array):
        block = array[a:b].reshape(len(array[a:b]), -1)
        block = block if columns is None else block[:, columns]
        # A NaN, if there is any, marks a missing element.
        wrong = (np.rint(block) != block) & (block == block)
        if wrong.any():
            return a + int(np.argmax(wrong.any(axis=1)))
    return None


def _check_array(name: str, values: Any) -> Any:
    if hasattr(values, "toarray"):
        raise TypeError(
            "Data must be dense. Received: a sparse matrix "
            f"({type(values).__name__}) as {name}. Give {name}.toarray()."
        )
    if isinstance(values, (list, tuple)):
        raise TypeError(
            f"Data must be arrays. Received: a {type(values).__name__} of "
            f"{len(values)} items as {name}. Give np.asarray({name})."
        )
    return values


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


class Data(NamedTuple):
    """The data for `fit`: arrays, or a pipeline in `x`.

    Attributes:
        x: arrays or tensors, `[N, ...]`, in any nesting; or a pipeline.
        y: targets, when x are arrays.
        sample_weight: weights of examples, when x are arrays.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None

    @property
    def arrays(self) -> list[Any]:
        """All arrays, without their nesting, each of them once."""
        leaves = keras.tree.flatten([part for part in self if part is not None])
        return list({id(leaf): leaf for leaf in leaves}.values())

    @property
    def are_arrays(self) -> bool:
        """Whether the data are arrays with the same number of rows."""
        return (
            self.x is not None
            and all(
                (isinstance(a, np.ndarray) or ops.is_tensor(a)) and len(a.shape)
                for a in self.arrays
            )
            and len({len(a) for a in self.arrays}) == 1
        )

    @property
    def num_rows(self) -> int:
        """The number of rows N of arrays."""
        return len(self.arrays[0])

    @property
    def num_bytes(self) -> int:
        """The size that arrays will have on the device."""
        return sum(
            math.prod(array.shape) * _bytes_of_one(array)
            for array in self.arrays
        )

    def steps_of_epoch(
        self, batch_size: int | None, steps_per_epoch: int | None
    ) -> int:
        """The number of steps of an epoch.

        Args:
            batch_size: as `fit` takes it.
            steps_per_epoch: as `fit` takes it.

        Returns:
            An int, 0 if it is not known beforehand.
        """
        if steps_per_epoch:
            return steps_per_epoch
        if hasattr(next(iter(self.arrays), None), "shape"):
            return -(-self.num_rows // (batch_size or 32))
        try:
            return len(self.x)
        except TypeError:  # a generator, or a `tf.data` pipeline without end
            return 0

    def split(self, validation_split: float) -> "tuple[Data, Data]":
        """The first rows to train on and the last ones to validate on.

        Args:
            validation_split: the share of the last ones, in (0, 1).

        Returns:
            The two parts.

        Raises:
            ValueError: if one of the two would have no rows.
        """
        count = self.num_rows
        at = int(np.floor(count * (1.0 - validation_split)))
        if not 0 < at < count:
            raise ValueError(
                "Both parts of a validation split must have examples. "
                f"Received: validation_split={validation_split} of {count} "
                "examples."
            )
        return self._rows(slice(at)), self._rows(slice(at, None))

    def _rows(self, rows: slice) -> "Data":
        # x may be its own target, and must remain so.
        parts = {id(array): array[rows] for array in self.arrays}
        return Data(
            *(
                None
                if part is None
                else keras.tree.map_structure(lambda a: parts[id(a)], part)
                for part in self
            )
        )


def _bytes_of_one(array: Any) -> int:
    """The bytes of an element in Keras' dtype."""
    dtype = keras.backend.standardize_dtype(array.dtype)
    if "float" in dtype:
        dtype = keras.config.floatx()
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
