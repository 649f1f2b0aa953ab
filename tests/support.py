"""The few things the tests need that differ between backends."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from tfp_vae.substrate import (
    EAGER_IS_SLOW,
    double_precision,
    jit,
    tfd,
    tfp_seed,
)

BACKEND = keras.backend.backend()


#: Marks tests that hold a layer against that of `tfp.layers`.
originals = pytest.mark.skipif(
    BACKEND != "tensorflow",
    reason="tfp.layers are Keras 2, which runs on TensorFlow alone",
)

#: A context in which float64 tensors stay float64 on every backend.
float64 = double_precision


def tfp_originals() -> Any:
    """`tfp.layers`; importing them gives deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_probability as tfp

        return tfp.layers


def fast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles on JAX, where each eager call would be compiled again."""
    return jit(function) if EAGER_IS_SLOW else function


if BACKEND == "jax":
    import jax

    def value_and_gradients(
        function: Callable[..., Any], data: Any, *parameters: Any
    ) -> tuple[Any, Any]:
        """The value, and the gradients of its sum in the parameters."""
        result, pull = jax.vjp(lambda *p: function(data, *p), *parameters)
        return result, pull(ops.ones_like(result))

    @functools.lru_cache(maxsize=256)
    def _compiled_gradients(function: Callable[..., Any]) -> Callable[..., Any]:
        return jit(
            lambda *p: value_and_gradients(lambda _, *q: function(*q), None, *p)
        )

else:
    import tensorflow as tf

    def value_and_gradients(
        function: Callable[..., Any], data: Any, *parameters: Any
    ) -> tuple[Any, Any]:
        """The value, and the gradients of its sum in the parameters."""
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            result = function(data, *parameters)
        return result, tape.gradient(
            result, parameters, unconnected_gradients="zero"
        )


def gradients(
    function: Callable[..., Any], *arguments: np.ndarray
) -> list[np.ndarray]:
    """The gradients of the sum of a function in each of its arguments.

    On JAX the same function is compiled once for arguments of one shape.
    """
    tensors = [ops.convert_to_tensor(a) for a in arguments]
    if BACKEND == "jax":
        _, found = _compiled_gradients(function)(*tensors)
    else:
        _, found = value_and_gradients(
            lambda _, *p: function(*p), None, *tensors
        )
    return [ops.convert_to_numpy(g) for g in found]


def density(
    make: Callable[[Any], tfd.Distribution], params: Any, x: Any
) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """The log density of `make(params)` at x, with batch and event shape."""
    shapes: list[tuple[int, ...]] = []

    def log_prob(params: Any, x: Any) -> Any:
        distribution = make(params)
        shapes[:] = (
            tuple(distribution.batch_shape),
            tuple(distribution.event_shape),
        )
        return distribution.log_prob(x)

    found = numpy(fast(log_prob)(params, x))
    return found, shapes[0], shapes[1]


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
