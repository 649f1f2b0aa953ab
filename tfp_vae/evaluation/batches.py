"""Passes data through a compiled function, some examples at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.entries import conditions_of, x_of
from tfp_vae.evaluation.compiled import compiled
from tfp_vae.evaluation.model import (
    ChecksData,
    LatentModel,
    check_model,
    likelihood_of,
    marker_of,
    prior_of,
)
from tfp_vae.latents import draw
from tfp_vae.substrate import Tensor, tfd, tfp_seed
from tfp_vae.training.data import as_keras_would, check_finite

__all__ = [
    "ROWS",
    "Batch",
    "Examples",
    "averages",
    "batches",
    "chunked",
    "prepared",
]

#: Rows of the decoder's batch at a time: bounds the memory for any number of
#: samples.
ROWS = 8192

# The data and, where it is another array, the target: `(x,)` or `(x, y)`. x may
# be a dict of an array and its conditions.
_Arrays = tuple[Any, ...]


class Batch(NamedTuple):
    """Examples for a compiled function.

    Attributes:
        x: `[B, *event]`, of the same B in all batches, or a dict of it and of
            conditions.
        y: the target of the likelihood; x itself if there is no other.
        found: how many rows, from the first on, are data; the others repeat the
            last one.
    """

    x: Any
    y: Tensor
    found: int


class _OneBatch:
    """Arrays as a pipeline of one batch."""

    def __init__(self, arrays: _Arrays) -> None:
        self._arrays = arrays

    def __iter__(self) -> Iterator[_Arrays]:
        yield self._arrays


class _Pipeline:
    """Batches in Keras' format, as arrays, each of them checked."""

    def __init__(self, source: Any, missing: float | None) -> None:
        _check_repeatable(source)
        self._source = source
        self._missing = missing

    def __iter__(self) -> Iterator[_Arrays]:
        for item in _items(self._source):
            arrays = _arrays(*_unpacked(item))
            for name, array in _named(arrays):
                check_finite(
                    name, array, self._missing if name in ("x", "y") else None
                )
            yield arrays


class Examples:
    """Examples and their targets, from any source.

    Arrays are a pipeline of one batch. Of a longer pipeline only one of its
    batches and one of `size` examples are held: each pass reads it again.

    Attributes:
        first: the first batch of the source, `(x,)` or `(x, y)`: for arrays,
            all examples.
        size: examples in a batch, at most N.
        count: N, or None if only a whole pass would show it.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 128,
        missing: float | None = None,
    ) -> None:
        """Checks the first batch.

        Args:
            x: data, `[N, *event]`, or a pipeline of batches `x`, `(x,)` or
                `(x, y)` that can be iterated several times.
            y: the target of the likelihood, `[N, *event]`, where x are arrays.
            batch_size: examples at a time.
            missing: what marks elements that are missing, or None.

        Raises:
            TypeError: if x can be iterated only once, or never ends.
            ValueError: if there are no data, x and y differ in length, values
                of a pipeline are not finite, or it has weights.
        """
        self._source: Iterable[_Arrays]
        self.count: int | None = None
        if _is_array(x):
            self._source = _OneBatch(_arrays(x, y))
        elif y is not None:
            raise ValueError(
                "The targets of a pipeline are in its batches, (x, y). "
                f"Received: y={type(y).__name__} and x={type(x).__name__}. "
                "Leave y out, or give arrays for both."
            )
        else:
            self._source = _Pipeline(x, missing)
        first = next(iter(self._source), None)
        x = None if first is None else x_of(first[0])
        if first is None or not x.ndim or not x.size:
            raise ValueError(
                "The data of a model are one array [N, *event] with N > 0, a "
                "dict of it and of conditions, or a pipeline of batches. "
                "Received: "
                + ("no batch." if first is None else f"x {x.shape}.")
            )
        if isinstance(self._source, _OneBatch):
            self.count = len(x)
        self.first = first
        self._batch_size = batch_size
        self.size = len(x_of(next(self.rows())[0]))

    def likelihood_of_first(self, model: LatentModel) -> tfd.Distribution:
        """p(x|z) at a draw of z, of the first example.

        Args:
            model: whose likelihood it is.

        Returns:
            A distribution of batch shape `[1]`.
        """
        x = keras.tree.map_structure(
            ops.convert_to_tensor, _rows(self.first, slice(1))[0]
        )
        posterior = model.encode(x)
        prior_of(model, posterior, x)
        z = draw(posterior, seed=tfp_seed(0))
        return likelihood_of(model, z, x, seed=tfp_seed(0))

    def limit(self, batch_size: int) -> None:
        """Takes smaller batches.

        Args:
            batch_size: examples at a time.
        """
        self._batch_size = max(min(self._batch_size, batch_size), 1)
        self.size = min(self.size, self._batch_size)

    def rows(self) -> Iterator[_Arrays]:
        """The examples, without padding.

        Yields:
            `(x,)` or `(x, y)`, with equally many rows in all batches except the
            last.
        """
        held: _Arrays | None = None
        for arrays in self._source:
            if held is not None:
                arrays = _joined(held, arrays)
            size, count = self._batch_size, len(x_of(arrays[0]))
            whole = count - count % size
            for start in range(0, whole, size):
                yield _rows(arrays, slice(start, start + size))
            held = _rows(arrays, slice(whole, None)) if count > whole else None
        if held is not None:
            yield held

    def __iter__(self) -> Iterator[Batch]:
        for arrays in self.rows():
            tensors = keras.tree.map_structure(
                lambda array: _padded(array, self.size), arrays
            )
            found = len(x_of(arrays[0]))
            yield Batch(tensors[0], x_of(tensors[-1]), found)


def _rows(arrays: _Arrays, rows: slice) -> _Arrays:
    return keras.tree.map_structure(lambda array: array[rows], arrays)


def _named(arrays: _Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """All arrays with the names that users gave them."""
    for name, array in zip("xy", arrays, strict=False):
        yield from array.items() if isinstance(array, dict) else [(name, array)]


def _is_array(x: Any) -> bool:
    return (
        hasattr(x, "shape")
        or isinstance(x, (list, tuple, dict, str))
        or not (hasattr(x, "__iter__") or hasattr(x, "__getitem__"))
    )


def _arrays(x: Any, y: Any) -> _Arrays:
    conditions = conditions_of(x)
    arrays = tuple(as_keras_would(a) for a in (x_of(x), y) if a is not None)
    if len({array.shape[:1] for array in arrays}) > 1:
        raise ValueError(
            "Each example has a target of its own. Received: x of shape "
            f"{arrays[0].shape}, y of shape {arrays[1].shape}. Give as many "
            "rows of y as of x."
        )
    if not isinstance(x, dict):
        return arrays
    found = {name: as_keras_would(c) for name, c in conditions.items()}
    for name, condition in found.items():
        if condition.shape[:1] != arrays[0].shape[:1]:
            raise ValueError(
                "All entries have one row for each example. Received: "
                f"{name} of shape {condition.shape}, x of shape "
                f"{arrays[0].shape}."
            )
    return ({**found, "x": arrays[0]}, *arrays[1:])


def _items(source: Any) -> Iterable[Any]:
    if isinstance(source, keras.utils.PyDataset):
        # Python would ask for items beyond the last one.
        return (source[i] for i in range(source.num_batches))
    return source


def _check_repeatable(source: Any) -> None:
    """Refuses what can be iterated only once, and what never ends."""
    if isinstance(source, Iterator):
        raise TypeError(
            "A pipeline is iterated several times: first to check the data, "
            f"then to evaluate. Received: {type(source).__name__}, "
            "which is empty after once. Give a tf.data.Dataset, a "
            "keras.utils.PyDataset, or an object whose __iter__ starts again."
        )
    if _is_endless(source):
        raise TypeError(
            "Data to evaluate on have an end. Received: "
            f"{type(source).__name__} without one. Leave out its repeat(), or "
            "take(n) batches of it."
        )


def _is_endless(source: Any) -> bool:
    if isinstance(source, keras.utils.PyDataset):
        return source.num_batches is None
    cardinality = getattr(source, "cardinality", None)
    # TensorFlow returns -1 for endless, -2 for unknown.
    return callable(cardinality) and int(cardinality()) == -1


def _unpacked(item: Any) -> tuple[Any, Any]:
    x, y, weights = keras.utils.unpack_x_y_sample_weight(item)
    if weights is not None:
        raise ValueError(
            "Figures are one for each example, and weights do not enter. "
            "Received: batches (x, y, sample_weight). Give batches (x, y), and "
            "weight the figures yourself."
        )
    return x, y


def _joined(held: _Arrays, arrays: _Arrays) -> _Arrays:
    if len(held) != len(arrays):
        raise ValueError(
            "All batches of a pipeline are x, or all are (x, y). Received: "
            "both kinds. Give each batch a target, or none."
        )
    return keras.tree.map_structure(
        lambda *parts: np.concatenate(parts), held, arrays
    )


def _padded(rows: np.ndarray, size: int) -> Tensor:
    """A tensor of `size` rows: the last one repeats."""
    padding = [(0, size - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
    return ops.convert_to_tensor(np.pad(rows, padding, mode="edge"))


def prepared(
    model: LatentModel,
    x: Any,
    y: Any = None,
    support: bool = True,
    batch_size: int = 128,
    **counts: int,
) -> Examples:
    """Data as `fit` would take them, after a check.

    Args:
        model: checks the data and builds itself, if it can.
        x: data, `[N, *event]`, or a pipeline of batches `x`, `(x,)` or
            `(x, y)`. All values of arrays are checked; of a pipeline, the first
            batch, and later whether the others are finite.
        y: the target of the likelihood, by default x.
        support: whether the target must have a finite density under the
            likelihood.
        batch_size: examples at a time.
        **counts: further numbers that are at least 1, such as `num_samples`.

    Returns:
        The examples, of Keras' float dtype if they were floating.

    Raises:
        TypeError, ValueError: if it is not a `LatentModel`, the shapes or the
            values of the data do not fit it, or a number is not positive.
    """
    check_model(model)
    for name, count in {**counts, "batch_size": batch_size}.items():
        check_positive_int(name, count)
    examples = Examples(x, y, batch_size, marker_of(model))
    first = examples.first
    if isinstance(model, ChecksData):
        model.check_data(
            first[0] if len(first) == 1 else _OneBatch(first), support=support
        )
        return examples
    for name, array in _named(first):
        check_finite(name, array)
    # Makes the weights of layers that were not called yet, which a compiled
    # function could not do.
    examples.likelihood_of_first(model)
    return examples


def batches(x: np.ndarray, batch_size: int) -> Iterator[tuple[Tensor, int]]:
    """Batches of one shape, so that one function is compiled.

    Args:
        x: `[N, ...]`.
        batch_size: rows at a time, at most N.

    Yields:
        A tensor `[batch_size, ...]` and how many of its rows, from the first
        on, are data; the others repeat the last one.
    """
    for start in range(0, len(x), batch_size):
        rows = x[start : start + batch_size]
        yield _padded(rows, batch_size), len(rows)


def chunked(
    function: Callable[..., tuple[Tensor, ...]],
    model: LatentModel,
    examples: Examples,
    num_samples: int,
    seed: int | None,
    verbose: bool,
) -> Iterator[tuple[Batch, int, Iterator[list[np.ndarray]]]]:
    """The results of a function for each batch, some samples of z at a time.

    Args:
        function: from the model, a number of samples, examples, `[B, *event]`
            or a dict, their targets and a seed to tensors. It is compiled and
            kept, so pass the same object at each call.
        model: its first argument.
        examples: N of them.
        num_samples: for each example; rounded up to a whole number of equal
            chunks.
        seed: an int, or None.
        verbose: whether to show the progress.

    Yields:
        The batch; how many samples there are in all; and an iterator over
        chunks of samples, to be consumed before the next batch, with the
        function's arrays, of float64.
    """
    chunks = -(-num_samples // max(ROWS // examples.size, 1))
    samples = -(-num_samples // chunks)

    run = compiled(function, model, samples)
    generator = keras.random.SeedGenerator(seed)
    target = None if examples.count is None else examples.count * chunks
    progress = keras.utils.Progbar(
        None if target is None else target * samples,
        verbose=int(verbose),
        unit_name="sample",
    )

    def terms(batch: Batch) -> Iterator[list[np.ndarray]]:
        for _ in range(chunks):
            yield [
                ops.convert_to_numpy(term).astype("float64")
                for term in run(batch.x, batch.y, tfp_seed(generator))
            ]
            progress.add(batch.found * samples)

    for batch in examples:
        yield batch, chunks * samples, terms(batch)


def averages(
    function: Callable[..., tuple[Tensor, ...]],
    model: LatentModel,
    examples: Examples,
    num_samples: int,
    seed: int | None,
    verbose: bool,
) -> list[np.ndarray]:
    """The results of a function for each example, averaged over samples of z.

    Args:
        function: as for `chunked`, to tensors `[B, ...]`, averages over the
            samples.
        model: as for `chunked`.
        examples: as for `chunked`.
        num_samples: as for `chunked`.
        seed: as for `chunked`.
        verbose: as for `chunked`.

    Returns:
        Arrays `[N, ...]` of float64, one for each tensor.
    """
    parts = []
    for batch, _, chunks in chunked(
        function, model, examples, num_samples, seed, verbose
    ):
        sums = next(chunks)
        count = 1
        for terms in chunks:
            sums = list(map(np.add, sums, terms))
            count += 1
        parts.append([term[: batch.found] / count for term in sums])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]
