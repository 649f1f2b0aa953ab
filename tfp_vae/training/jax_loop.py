"""Several training steps in one compiled loop, which Keras lacks on JAX."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp

from tfp_vae.keras_internals import has_value
from tfp_vae.training.execution import execution
from tfp_vae.training.jax_convolutions import with_fast_convolutions
from tfp_vae.training.plan import Plan
from tfp_vae.training.rows import Rows

__all__ = [
    "LOOPS_PIPELINES",
    "can_loop",
    "fast_step",
    "keeping_state",
    "looped",
]

#: Keras' own loop over a pipeline runs in Python.
LOOPS_PIPELINES = False


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


def fast_step(
    model: keras.Model, step: Callable[..., Any]
) -> Callable[..., Any]:
    """A step of training as this backend runs it best.

    Args:
        model: compiled, in Keras' sense.
        step: Keras' own, or one of the user.

    Returns:
        A step whose convolutions are in the form that is fast on a CPU, if it
        is compiled for a CPU.
    """
    if can_loop(model) and jax.default_backend() == "cpu":
        return with_fast_convolutions(step)
    return step


@contextlib.contextmanager
def keeping_state(model: keras.Model) -> Iterator[None]:
    """Puts back the values that Keras' trainer has taken out of the variables.

    Args:
        model: compiled, in Keras' sense.

    Yields:
        Nothing.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [
        *model.variables,
        *model.metrics_variables,
        *(optimizer.variables if optimizer is not None else ()),
    ]
    before = [(v, v.value) for v in variables if has_value(v)]
    try:
        yield
    except BaseException:
        model.jax_state_sync()
        for variable, value in before:
            if not has_value(variable) and not value.is_deleted():
                variable.assign(value)
        raise


def looped(model: keras.Model, plan: Plan) -> Callable[..., Any]:
    """What runs each execution of several steps on rows that are held.

    Args:
        model: whose `train_step` runs.
        plan: how many steps, and whether convolutions get the fastest form. All
            steps are compiled here.

    Returns:
        A function from the rows, the state and an iterator over batches of row
        numbers to the logs after the last step and the state.
    """

    def step(state: Any, rows: Rows, numbers: Any) -> tuple[Any, Any]:
        # Not `ops.take`, which checks for numbers out of range.
        data = jax.tree.map(lambda r: r[numbers], rows)
        return model.train_step(
            state, keras.utils.pack_x_y_sample_weight(*data)
        )

    if plan.fast_convolutions:
        step = fast_step(model, step)
    # Traced once, for the shape of the logs and for the loop.
    inside = jax.jit(step)

    @functools.partial(jax.jit, donate_argnums=0)
    def loop(
        state: Any, rows: Rows, batches: Any, count: Any
    ) -> tuple[Any, Any]:
        def body(i: Any, carried: tuple[Any, Any]) -> tuple[Any, Any]:
            found = inside(carried[1], rows, batches[i])
            # Exactly the types at the start, as a loop requires.
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
        plan.steps,
    )


def _stacked(batches: list[Any]) -> Any:
    # On a CPU Keras passes numpy arrays on, elsewhere those of the device.
    module = np if isinstance(batches[0], np.ndarray) else jnp
    return module.stack(batches)
