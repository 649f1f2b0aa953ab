"""The few things the tests need that differ between backends."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.substrate import (
    EAGER_IS_SLOW,
    double_precision,
    jit,
    tfd,
    tfp_seed,
)

BACKEND = keras.backend.backend()


#: A context in which float64 tensors are float64 on every backend.
float64 = double_precision


def fast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles where step by step each call is compiled anew, on JAX."""
    return jit(function) if EAGER_IS_SLOW else function


def gradients(
    function: Callable[..., Any], *arguments: np.ndarray
) -> list[np.ndarray]:
    """The gradients of the sum of a function in each of its arguments."""
    tensors = [ops.convert_to_tensor(a) for a in arguments]
    if BACKEND == "jax":
        import jax

        found = jit(
            jax.grad(
                lambda *a: ops.sum(function(*a)),
                argnums=tuple(range(len(tensors))),
            )
        )(*tensors)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = ops.sum(function(*tensors))
        found = tape.gradient(value, tensors, unconnected_gradients="zero")
    return [ops.convert_to_numpy(g) for g in found]


def numpy(tensor: Any) -> np.ndarray:
    return ops.convert_to_numpy(tensor)


def sample(distribution: tfd.Distribution, n: Any, seed: int = 0) -> np.ndarray:
    return numpy(distribution.sample(n, seed=tfp_seed(seed)))


def assert_close(actual: Any, exact: Any, tolerance: float) -> None:
    """Relative to the value, or to 1 where it is smaller.

    A log density of about 0 is the difference of numbers of order 1.
    """
    actual = np.asarray(numpy(actual), np.float64)
    exact = np.array([float(e) for e in exact])
    error = np.abs(actual - exact) / np.maximum(np.abs(exact), 1.0)
    worst = int(np.argmax(error))
    assert error[worst] <= tolerance, (worst, actual[worst], exact[worst])


def jacobians(function: Callable[..., Any], points: np.ndarray) -> np.ndarray:
    """The Jacobian of a function of vectors at each of some points."""
    tensor = ops.convert_to_tensor(points)
    if BACKEND == "jax":
        import jax

        found = jit(jax.vmap(jax.jacrev(function)))(tensor)
    else:
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            tape.watch(tensor)
            value = function(tensor)
        # Loops cannot be vectorised.
        found = tape.batch_jacobian(value, tensor, experimental_use_pfor=False)
    return numpy(found)
