"""Several training steps in one compiled loop, which Keras has not on JAX."""

import functools
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp

__all__ = ["can_loop", "looped", "loops_pay"]

# In a loop XLA on a CPU takes several times as long for their gradients
# (jax-ml/jax issues 31662 and 23783).
_CONVOLUTIONS = tuple(
    getattr(keras.layers, name)
    for name in dir(keras.layers)
    if re.fullmatch(r"(Depthwise|Separable)?Conv\dD(Transpose)?", name)
)


def can_loop(model: keras.Model) -> bool:
    """Whether several steps of a model can be compiled as one loop.

    Args:
        model: compiled, in Keras' sense.

    Returns:
        A bool; False for eager steps, and where data are spread over devices.
    """
    return (
        model.jit_compile
        and not model.run_eagerly
        and keras.distribution.distribution() is None
        and not keras.config.is_nnx_enabled()
    )


def loops_pay(model: keras.Model) -> bool:
    """Whether several steps in one loop take less time than one by one.

    Args:
        model: built.

    Returns:
        A bool; False on a CPU for a model with convolutions.
    """
    return can_loop(model) and (
        jax.default_backend() != "cpu"
        or not any(
            isinstance(layer, _CONVOLUTIONS)
            for layer in model._flatten_layers()
        )
    )


def looped(
    train_step: Callable[[Any, Any], tuple[Any, Any]], several: int
) -> Callable[[Any, Iterator[Any]], tuple[Any, Any]]:
    """What Keras' trainer calls for each execution of several steps.

    Args:
        train_step: from the state and a batch to the logs and the next state.
        several: the most steps of one execution.

    Returns:
        A function from the state and an iterator over batches to the logs after
        the last step and the state. Batches that have not the shape of the
        first, such as the last of an epoch, run one by one.
    """
    single = jax.jit(train_step, donate_argnums=0)
    # Traced once, for the shape of the logs and for the loop.
    inside = jax.jit(train_step)

    @functools.partial(jax.jit, donate_argnums=0)
    def loop(state: Any, batches: Any, count: Any) -> tuple[Any, Any]:
        def batch(number: Any) -> Any:
            return jax.tree.map(lambda b: b[number], batches)

        def step(number: Any, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            found = inside(carried[1], batch(number))
            # The very types of the start, as a loop must have them.
            return jax.tree.map(
                lambda new, old: lax.convert_element_type(new, old.dtype),
                found,
                carried,
            )

        logs, _ = jax.eval_shape(inside, state, batch(0))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), logs)
        return lax.fori_loop(0, count, step, (zeros, state))

    def train_function(state: Any, iterator: Iterator[Any]) -> tuple[Any, Any]:
        batches = [next(iterator), *itertools.islice(iterator, several - 1)]
        alike = list(itertools.takewhile(_is_like(batches[0]), batches))
        logs: Any = None
        if len(alike) > 1:
            stacked = jax.tree.map(
                functools.partial(_stacked, size=several), *alike
            )
            logs, state = loop(state, stacked, len(alike))
            batches = batches[len(alike) :]
        for data in batches:
            logs, state = single(state, data)
        return logs, state

    return train_function


def _is_like(first: Any) -> Callable[[Any], bool]:
    """Whether a batch has the structure and the shapes of another."""

    def described(batch: Any) -> Any:
        leaves, structure = jax.tree.flatten(batch)
        return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]

    expected = described(first)
    return lambda batch: described(batch) == expected


def _stacked(*arrays: Any, size: int) -> Any:
    """Arrays in one of `size` rows; what fills it up is never looked at."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        rows = np.empty((size, *arrays[0].shape), arrays[0].dtype)
        np.stack(arrays, out=rows[: len(arrays)])
        return rows
    return jnp.stack([*arrays, *arrays[-1:] * (size - len(arrays))])
