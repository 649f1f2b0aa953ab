"""Arrays through a compiled function, some examples at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.evaluation.model import ChecksData, LatentModel
from tfp_vae.substrate import Tensor, jit, tfp_seed
from tfp_vae.training.data import as_keras_would, check_finite

__all__ = ["ROWS", "averages", "batches", "chunked", "prepared"]

#: Rows of the decoder's batch at a time: bounds the memory, whatever the number
#: of samples.
ROWS = 8192


def prepared(
    model: LatentModel, x: Any, support: bool = True, **counts: int
) -> np.ndarray:
    """Data as `fit` would take them, looked at.

    Args:
        model: which looks at the data itself, and builds itself, where it
            can.
        x: data, `[N, *event]`.
        support: whether x must have a finite density under the likelihood.
        **counts: numbers that are at least 1, such as `batch_size`.

    Returns:
        `[N, *event]`, of Keras' float dtype if they were floating.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, or a number is not positive.
    """
    for name, count in counts.items():
        check_positive_int(name, count)
    x = as_keras_would(x)
    if isinstance(model, ChecksData):
        model.check_data(x, support=support)
    else:
        check_finite("x", x)
    return x


def batches(x: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, int]]:
    """Batches of one shape, so that one function is compiled.

    Args:
        x: `[N, ...]`.
        batch_size: examples at a time, at most N.

    Yields:
        A tensor `[batch_size, ...]` and how many of its rows, from the first
        on, are data; the others repeat the last one.
    """
    for start in range(0, len(x), batch_size):
        rows = x[start : start + batch_size]
        padding = [(0, batch_size - len(rows)), *[(0, 0)] * (x.ndim - 1)]
        yield (
            ops.convert_to_tensor(np.pad(rows, padding, mode="edge")),
            len(rows),
        )


def chunked(
    function: Callable[[Tensor, int, Tensor], tuple[Tensor, ...]],
    x: np.ndarray,
    num_samples: int,
    batch_size: int,
    seed: int | None,
    verbose: bool,
) -> Iterator[tuple[int, int, Iterator[list[np.ndarray]]]]:
    """What a function gives for each batch, some samples of z at a time.

    Args:
        function: from examples `[B, *event]`, a number of samples and a seed
            to tensors. Compiled.
        x: `[N, *event]`.
        num_samples: for each example; rounded up to a whole number of equal
            chunks.
        batch_size: examples at a time.
        seed: an int, or None.
        verbose: whether to show the progress.

    Yields:
        How many of the B examples are data, the first ones; how many samples
        there are in all; and, to be gone through before the next batch, for
        each chunk of them the function's arrays, of float64.
    """
    batch_size = min(batch_size, len(x))
    chunks = -(-num_samples // max(ROWS // batch_size, 1))
    samples = -(-num_samples // chunks)

    @jit
    def compiled(rows: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
        return function(rows, samples, noise)

    generator = keras.random.SeedGenerator(seed)
    progress = keras.utils.Progbar(
        len(x) * chunks * samples, verbose=int(verbose), unit_name="sample"
    )

    def terms(rows: Tensor, found: int) -> Iterator[list[np.ndarray]]:
        for _ in range(chunks):
            yield [
                ops.convert_to_numpy(term).astype("float64")
                for term in compiled(rows, tfp_seed(generator))
            ]
            progress.add(found * samples)

    for rows, found in batches(x, batch_size):
        yield found, chunks * samples, terms(rows, found)


def averages(
    function: Callable[[Tensor, int, Tensor], tuple[Tensor, ...]],
    x: np.ndarray,
    num_samples: int,
    batch_size: int,
    seed: int | None,
    verbose: bool,
) -> list[np.ndarray]:
    """What a function gives for each example, averaged over samples of z.

    Args:
        function: as for `chunked`, to tensors `[B, ...]`, averages over so
            many samples.
        x: as for `chunked`.
        num_samples: as for `chunked`.
        batch_size: as for `chunked`.
        seed: as for `chunked`.
        verbose: as for `chunked`.

    Returns:
        Arrays `[N, ...]` of float64, one for each tensor.
    """
    parts = []
    for found, _, chunks in chunked(
        function, x, num_samples, batch_size, seed, verbose
    ):
        sums = next(chunks)
        count = 1
        for terms in chunks:
            sums = list(map(np.add, sums, terms))
            count += 1
        parts.append([term[:found] / count for term in sums])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
