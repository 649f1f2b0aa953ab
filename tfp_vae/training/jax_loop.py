"""Several training steps in one compiled loop, which Keras has not on JAX."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp

from tfp_vae.training.data import are_arrays
from tfp_vae.training.execution import execution
from tfp_vae.training.jax_convolutions import with_fast_convolutions
from tfp_vae.training.rows import Rows

__all__ = ["can_loop", "looped", "loops_pay", "refined"]


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
        # Keras 3.10 has no NNX yet.
        and not getattr(keras.config, "is_nnx_enabled", bool)()
    )


def loops_pay(model: keras.Model, x: Any) -> bool:
    """Whether several steps in one loop take less time than one by one.

    Args:
        model: built.
        x: data, as `fit` takes them.

    Returns:
        A bool; False for a pipeline, over which Keras' own loop is one in
        Python.
    """
    return are_arrays(x) and can_loop(model)


def refined(model: keras.Model, step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of training as this backend runs it best.

    Args:
        model: compiled, in Keras' sense.
        step: Keras' own.

    Returns:
        One with convolutions in the form that is fast on a CPU, where it is
        compiled for one.
    """
    if can_loop(model) and jax.default_backend() == "cpu":
        return with_fast_convolutions(step)
    return step


def looped(
    model: keras.Model, several: int, may_compile: bool
) -> Callable[..., Any]:
    """What runs each execution of several steps on rows that are held.

    Args:
        model: whose `train_step` runs.
        several: the most steps of one execution.
        may_compile: of no meaning here, where all steps are compiled.

    Returns:
        A function from the rows, the state and an iterator over batches of
        their numbers to the logs after the last step and the state.
    """

    def step(state: Any, rows: Rows, numbers: Any) -> tuple[Any, Any]:
        # Not `ops.take`, which looks for numbers out of range.
        data = (r[numbers] for r in rows)
        return model.train_step(
            state, keras.utils.pack_x_y_sample_weight(*data)
        )

    step = refined(model, step)
    # Traced once, for the shape of the logs and for the loop.
    inside = jax.jit(step)

    @functools.partial(jax.jit, donate_argnums=0)
    def loop(
        state: Any, rows: Rows, batches: Any, count: Any
    ) -> tuple[Any, Any]:
        def body(i: Any, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            found = inside(carried[1], rows, batches[i])
            # The very types of the start, as a loop must have them.
            return jax.tree.map(
                lambda new, old: lax.convert_element_type(new, old.dtype),
                found,
                carried,
            )

        logs, _ = jax.eval_shape(inside, state, rows, batches[0])
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), logs)
        return lax.fori_loop(0, count, body, (zeros, state))

    return execution(
        loop,
        jax.jit(step, donate_argnums=0),
        _stacked,
        several,
    )


def _stacked(batches: list[Any]) -> Any:
    # On a CPU Keras hands on numpy arrays, elsewhere those of the device.
    module = np if isinstance(batches[0], np.ndarray) else jnp
    return module.stack(batches)
