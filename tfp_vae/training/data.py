"""What `fit` is given, looked at before the first step."""

import itertools
import math
from collections.abc import Iterator
from types import GeneratorType
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

__all__ = ["Data", "as_keras_would", "check_finite", "peek"]

# Rows that are looked at closely, beside the two with the extreme values.
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


class Data(NamedTuple):
    """What `fit` is given: arrays, or a pipeline in `x`.

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
        """All arrays, without their nesting, each once."""
        leaves = keras.tree.flatten([part for part in self if part is not None])
        return list({id(leaf): leaf for leaf in leaves}.values())

    @property
    def are_arrays(self) -> bool:
        """Whether the data are arrays of as many rows each."""
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
        """N, of arrays."""
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
        """Steps of an epoch.

        Args:
            batch_size: as `fit` takes it.
            steps_per_epoch: as `fit` takes it.

        Returns:
            An int, 0 where it is not known beforehand.
        """
        if steps_per_epoch:
            return steps_per_epoch
        if self.are_arrays:
            return -(-self.num_rows // (batch_size or 32))
        if hasattr(self.x, "shape"):
            return -(-len(self.x) // (batch_size or 32))
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
        # x may be its own target, and stay so.
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
    """Of an element, as Keras would have it."""
    dtype = keras.backend.standardize_dtype(array.dtype)
    if "float" in dtype:
        dtype = keras.config.floatx()
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
