"""Data that stay on the device: `fit` sees only their row numbers."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.keras_internals import DataAdapter
from tfp_vae.training.data import Data, as_keras_would

__all__ = ["RowNumbers", "Rows", "can_hold", "held"]

#: What `held` returns: x, y and weights, those that exist, each an array or a
#: nesting of arrays.
Rows = tuple[Any, ...]


def can_hold() -> bool:
    """Whether Keras' trainer can be fed numbers of rows.

    Returns:
        A bool; False for a Keras without the data adapters that we know.
    """
    return DataAdapter is not None


def held(data: Data) -> Rows:
    """Arrays as tensors on the device.

    Args:
        data: arrays.

    Returns:
        x, y and weights, without those that are None.
    """
    # x may be its own target: it is copied once.
    tensors = {
        id(array): ops.convert_to_tensor(as_keras_would(array))
        for array in data.arrays
    }
    return tuple(
        keras.tree.map_structure(lambda a: tensors[id(a)], part)
        for part in data
        if part is not None
    )


class RowNumbers(DataAdapter or object):  # type: ignore[misc]
    """The numbers of held rows, which are fed to Keras' trainer.

    Keras would use a pipeline, whose threads and iterators take longer than a
    small network.
    """

    def __init__(
        self,
        count: int,
        batch_size: int | None = None,
        steps: int | None = None,
        shuffle: bool = True,
    ) -> None:
        """Makes the numbers of `count` rows in batches.

        Args:
            count: how many rows there are.
            batch_size: rows at a time, by default 32 or the number that gives
                `steps`.
            steps: of an epoch.
            shuffle: whether each epoch has its own order, drawn by `np.random`
                as Keras does on JAX.
        """
        self._count = count
        self._batch_size = batch_size or (-(-count // steps) if steps else 32)
        self._shuffle = shuffle

    def __iter__(self) -> Iterator[np.ndarray]:
        order = np.arange(self._count, dtype="int32")
        if self._shuffle:
            np.random.shuffle(order)
        for start in range(0, self._count, self._batch_size):
            yield order[start : start + self._batch_size]

    def get_tf_dataset(self) -> "RowNumbers":
        return self  # Keras takes an iterator of it for each epoch

    def get_jax_iterator(self) -> Iterator[np.ndarray]:
        return iter(self)

    @property
    def num_batches(self) -> int:
        return -(-self._count // self._batch_size)

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def has_partial_batch(self) -> bool:
        return self.partial_batch_size is not None

    @property
    def partial_batch_size(self) -> int | None:
        return self._count % self._batch_size or None
