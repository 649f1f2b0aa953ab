"""The one file that asks which backend Keras runs on.

Keras 3 runs on several backends and TensorFlow Probability has a substrate for
two of them. This module binds the pair, so that everything above it is written
once, in `keras.ops` and in the `tfp`, `tfd` and `tfb` found here.
"""

import contextlib
import importlib
import inspect
import random
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

__all__ = [
    "EAGER_IS_SLOW",
    "KERAS_COMPILES_LOOPS",
    "DiscreteDistributionMixin",
    "Tensor",
    "as_tensor",
    "assert_util",
    "double_precision",
    "dtype_util",
    "explicit_name",
    "is_discrete",
    "jit",
    "jit_quickly",
    "jit_with_variables",
    "linalg",
    "multiply_no_nan",
    "ndtri",
    "parameter_properties",
    "ps",
    "repeat",
    "samplers",
    "shapes_of",
    "strategy_scope",
    "tensor_util",
    "tfb",
    "tfd",
    "tfp",
    "tfp_seed",
]

#: A tensor of the running backend, or anything that converts to one.
Tensor = Any

_BACKEND = keras.backend.backend()

#: Whether Keras compiles the loop over several steps, or runs it in Python.
KERAS_COMPILES_LOOPS = _BACKEND == "tensorflow"

#: Whether eager execution compiles each operation by itself, and the loop of a
#: special function at every call.
EAGER_IS_SLOW = _BACKEND == "jax"

if _BACKEND == "tensorflow":
    import tensorflow as tf
    import tensorflow_probability as tfp

    _INTERNAL = "tensorflow_probability.python.internal"
    linalg = tf.linalg
    ndtri = tf.math.ndtri
    multiply_no_nan = tf.math.multiply_no_nan
    # Keras takes a `DeferredTensor` of TFP as a tensor, which then computes its
    # value again at each use.
    as_tensor = tf.convert_to_tensor
    jit = tf.function
    jit_quickly = tf.function

    def shapes_of(function: Any, *arguments: Any) -> Any:
        """The shapes and dtypes that a function returns: here by calling it."""
        return function(*arguments)

    def jit_with_variables(
        function: Callable[..., Any], variables: list[Any]
    ) -> Callable[..., Any]:
        """Compiles a function that reads variables, and may assign them."""
        return tf.function(function)

    def strategy_scope(model: keras.Model) -> Any:
        """The scope in which a model makes its variables."""
        return model.distribute_strategy.scope()

    def double_precision() -> Any:
        """A context in which float64 stays float64: here it always does."""
        return contextlib.nullcontext()

    def repeat(
        count: int, step: Callable[[Tensor, Tensor], Tensor], value: Tensor
    ) -> Tensor:
        """`step(i, value)` for i = 0 to count - 1: one loop, differentiable."""
        _, value = tf.while_loop(
            lambda i, value: i < count,
            lambda i, value: (i + 1, step(i, value)),
            (tf.constant(0), value),
            # XLA differentiates no other loop.
            maximum_iterations=count,
        )
        return value

    _SEED_DTYPE = "int64"

    def _to_tfp_seed(state: Tensor) -> Tensor:
        """Folds Keras' 64-bit pair to int32, and the replica's number into it.

        Keras mirrors a seed generator over the replicas of a `tf.distribute`
        strategy, so without the number all replicas would draw the same noise.
        """
        pair = tf.cast(
            tf.math.floormod(tf.cast(state, tf.int64), tf.int32.max - 1),
            tf.int32,
        )
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return pair
        return samplers.fold_in(pair, context.replica_id_in_sync_group)

elif _BACKEND == "jax":
    import jax
    import jax.scipy.special
    from jax.interpreters import xla

    def _restore_pytype_aval_mappings() -> None:
        """Gives `jax.interpreters.xla` back the name that TFP looks up."""
        # TFP 0.25 registers its variables under two names of one table. JAX 0.7
        # removed this name, so the import of TFP would fail.
        table = getattr(jax.core, "pytype_aval_mappings", None)
        if table is not None and not hasattr(xla, "pytype_aval_mappings"):
            xla.pytype_aval_mappings = table

    _restore_pytype_aval_mappings()

    from tensorflow_probability.substrates import jax as tfp

    _INTERNAL = "tensorflow_probability.substrates.jax.internal"
    # The substrate has its own linear operators.
    linalg = tfp.tf2jax.linalg
    ndtri = jax.scipy.special.ndtri

    def multiply_no_nan(x: Tensor, y: Tensor) -> Tensor:
        """x y, and 0 where y is 0, also if x is infinite."""
        return jax.numpy.where(y == 0, 0, x * y)

    as_tensor = tfp.tf2jax.convert_to_tensor
    jit = jax.jit
    shapes_of = jax.eval_shape

    def jit_quickly(function: Any) -> Any:
        """Compiles in half the time, to slower code."""
        # Older JAX has no such argument.
        if "compiler_options" not in inspect.signature(jax.jit).parameters:
            return jax.jit(function)
        return jax.jit(
            function, compiler_options={"xla_backend_optimization_level": 0}
        )

    def jit_with_variables(
        function: Callable[..., Any], variables: list[Any]
    ) -> Callable[..., Any]:
        """Compiles a function that reads variables, and may assign them."""

        @jax.jit
        def stateless(values: list[Any], *args: Any) -> tuple[Any, Any]:
            state = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state) as scope:
                before = list(map(scope.get_current_value, variables))
                found = function(*args)
                after = list(map(scope.get_current_value, variables))
            changes = enumerate(zip(before, after, strict=True))
            return found, {i: a for i, (b, a) in changes if a is not b}

        def stateful(*args: Any) -> Any:
            found, assigned = stateless([v.value for v in variables], *args)
            for i, value in assigned.items():
                variables[i].assign(value)
            return found

        return stateful

    def strategy_scope(model: keras.Model) -> Any:
        """`tf.distribute` has no meaning here: an empty scope."""
        return contextlib.nullcontext(model)

    def double_precision() -> Any:
        """A context in which float64 is float64."""
        # JAX 0.8 moved it out of `experimental`.
        enable = getattr(jax.experimental, "enable_x64", None)
        return (enable or jax.enable_x64)(True)

    def repeat(
        count: int, step: Callable[[Tensor, Tensor], Tensor], value: Tensor
    ) -> Tensor:
        """`step(i, value)` for i = 0 to count - 1: one loop, differentiable."""
        # A count known while tracing gives a scan, which JAX differentiates.
        return jax.lax.fori_loop(0, count, step, value)

    _SEED_DTYPE = "uint32"

    def _to_tfp_seed(state: Tensor) -> Tensor:
        return state

else:
    raise ImportError(
        "tfp_vae runs on the TensorFlow and JAX backends of Keras, since "
        "TensorFlow Probability has no other substrate: set KERAS_BACKEND to "
        f"'tensorflow' or 'jax' before Keras is imported (it is {_BACKEND!r})."
    )

tfd = tfp.distributions
tfb = tfp.bijectors

# What our own distribution classes need in addition to TFP's public interface:
# the modules that TFP's own distributions use.
assert_util = importlib.import_module(f"{_INTERNAL}.assert_util")
dtype_util = importlib.import_module(f"{_INTERNAL}.dtype_util")
parameter_properties = importlib.import_module(
    f"{_INTERNAL}.parameter_properties"
)
ps = importlib.import_module(f"{_INTERNAL}.prefer_static")
samplers = importlib.import_module(f"{_INTERNAL}.samplers")
tensor_util = importlib.import_module(f"{_INTERNAL}.tensor_util")
_DISTRIBUTIONS = f"{_INTERNAL.removesuffix('internal')}distributions."
DiscreteDistributionMixin = importlib.import_module(
    f"{_DISTRIBUTIONS}distribution"
).DiscreteDistributionMixin
#: The name that a part of a coroutine was given, or None.
explicit_name = importlib.import_module(
    f"{_DISTRIBUTIONS}joint_distribution"
).get_explicit_name_for_component


def _restore_newshape() -> None:
    """Gives `np.reshape` its `newshape` back, only in `tfb.Pad`."""
    # NumPy 2.4 removed the argument, which TFP 0.25 uses: without it neither
    # `tfb.Pad` nor `tfb.SoftmaxCentered` can be made.
    if "newshape" in inspect.signature(np.reshape).parameters:
        return
    pad: Any = importlib.import_module(
        f"{_INTERNAL.removesuffix('internal')}bijectors.pad"
    )

    def reshape(a: Any, shape: Any = None, *, newshape: Any = None) -> Any:
        return np.reshape(a, newshape if shape is None else shape)

    pad.np = types.SimpleNamespace(**{**vars(np), "reshape": reshape})


_restore_newshape()


def is_discrete(distribution: Any) -> bool:
    """Whether the outcomes of a distribution are integers.

    Args:
        distribution: any.

    Returns:
        A bool: by `DiscreteDistributionMixin`, otherwise by the dtype; for an
        `Independent`, a mixture and the like, by all the distributions inside.
    """
    if isinstance(distribution, DiscreteDistributionMixin):
        return True
    # An inflated distribution is also a mixture, whose point has a float dtype.
    for name in ("distribution", "components_distribution"):
        inside = getattr(distribution, name, None)
        if isinstance(inside, tfd.Distribution):
            return is_discrete(inside)
    for name in ("components", "distributions"):
        parts = getattr(distribution, name, None)
        if parts:
            return all(map(is_discrete, parts))
    # A user's own class may have nothing but its dtype; a joint distribution
    # has several.
    return all(
        keras.backend.standardize_dtype(dtype).startswith(("int", "uint"))
        for dtype in keras.tree.flatten(distribution.dtype)
    )


def tfp_seed(seed: Any) -> Tensor:
    """A seed for TFP's samplers from a Keras seed.

    Args:
        seed: a `keras.random.SeedGenerator` (advanced by one), an integer (the
            same integer gives the same seed), or None for a fresh one.

    Returns:
        A stateless seed of shape `[2]`, distinct on each replica of a
        `tf.distribute` strategy.
    """
    if isinstance(seed, keras.random.SeedGenerator):
        return _to_tfp_seed(seed.next())
    if seed is None:
        seed = random.randrange(2**31)
    # A constant, since a compiled function cannot make the variable of a
    # `SeedGenerator`.
    return _to_tfp_seed(keras.ops.convert_to_tensor([seed, 0], _SEED_DTYPE))
