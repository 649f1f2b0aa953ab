"""Data that stay on the device: `fit` sees their row numbers alone."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

# Keras takes an adapter for `x`, but has no public name for its base class.
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from tfp_vae.substrate import Tensor
from tfp_vae.training.data import as_keras_would

__all__ = ["RowNumbers", "Rows", "held"]

#: What `held` gives: x, y and weights as far as there are any.
Rows = tuple[Tensor, ...]

# What is larger is fed batch by batch.
_MOST_BYTES = 2**30


def held(*arrays: Any) -> Rows | None:
    """Arrays as tensors on the device, or None if they are too large.

    Args:
        *arrays: x, y and weights, `[N, ...]` each; the last ones may be None.

    Returns:
        Tensors, as many as were given.
    """
    # x may be its own target: once.
    given = {id(array): array for array in arrays if array is not None}
    # Of any dtype; before it is converted for nothing.
    if sum(math.prod(array.shape) for array in given.values()) > _MOST_BYTES:
        return None
    narrow = {i: as_keras_would(array) for i, array in given.items()}
    if sum(array.nbytes for array in narrow.values()) > _MOST_BYTES:
        return None
    tensors = {i: ops.convert_to_tensor(array) for i, array in narrow.items()}
    return tuple(tensors[id(array)] for array in arrays if array is not None)


class RowNumbers(DataAdapter):
    """What Keras' trainer is fed of rows that are held: their numbers.

    Keras would do so by a pipeline, whose threads and iterators take longer
    than a small network.
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
            batch_size: rows at a time, by default 32 or what makes `steps`.
            steps: of an epoch.
            shuffle: whether each epoch has an order of its own, drawn by
                `np.random` as Keras does on JAX.
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
        return self  # of which Keras wants an iterator for each epoch

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
