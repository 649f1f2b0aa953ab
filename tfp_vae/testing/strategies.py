"""Hypothesis strategies for distributions, from their parameter properties."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from keras import ops

from tfp_vae.substrate import tfb, tfd

__all__ = ["instances"]

# Parameter sets in one instance, and the length of vectors.
BATCH = 3
_LENGTH = 2

# Numbers before the constraining bijector; multiples of 1/8, so that failures
# are easy to read.
_UNCONSTRAINED = st.integers(-16, 16).map(lambda eighths: eighths / 8)


def _values(
    strategy: st.SearchStrategy[float], shape: tuple[int, ...]
) -> st.SearchStrategy[np.ndarray]:
    size = int(np.prod(shape))
    return st.lists(strategy, min_size=size, max_size=size).map(
        lambda values: np.array(values, np.float32).reshape(shape)
    )


def _constrained(
    bijector: tfb.Bijector, is_scalar: bool, values: np.ndarray
) -> np.ndarray:
    """Values through the bijector; every other scalar is made round.

    Formulas have their seams at round numbers: a gradient that is wrong only at
    1 shows nowhere else.
    """
    found = ops.convert_to_numpy(bijector.forward(values))
    if not is_scalar:
        return found
    whole = np.round(2 * found) / 2
    inside = np.isfinite(ops.convert_to_numpy(bijector.inverse(whole)))
    return np.where((8 * values % 2 == 0) & inside, whole, found)


def instances(
    cls: type[tfd.Distribution],
    parameters: Mapping[str, st.SearchStrategy[float]] | None = None,
    **fixed: Any,
) -> st.SearchStrategy[tfd.Distribution]:
    """Batches of three distributions of a class, with random parameters.

    Numbers from -2 to 2 go through the bijector that `parameter_properties`
    gives for a parameter; every other scalar is then made a multiple of 1/2.

    Args:
        cls: the class.
        parameters: strategies of numbers for parameters that have no such
            bijector, or need other values.
        **fixed: further arguments of the class, the same for all.

    Returns:
        A strategy of instances, float32, of batch shape `[3]`.

    Raises:
        TypeError: if the class does not declare its parameters.
    """
    try:
        properties = cls.parameter_properties()
    except NotImplementedError as error:
        raise TypeError(
            "To be drawn at random a distribution class must declare its "
            "parameters in the class method _parameter_properties. Received: "
            f"{cls.__name__}, which does not. Add it, or pass a Hypothesis "
            "strategy of instances."
        ) from error
    parameters = dict(parameters or {})
    drawn = {}
    for name, declared in properties.items():
        if name in fixed or not (declared.is_preferred or name in parameters):
            continue
        if name in parameters:
            drawn[name] = _values(parameters[name], (BATCH,))
            continue
        try:
            bijector = declared.default_constraining_bijector_fn()
        except NotImplementedError as error:
            raise TypeError(
                "Each parameter needs a default_constraining_bijector_fn in "
                f"_parameter_properties. Received: `{name}` of "
                f"{cls.__name__} without one. Add it, or pass parameters="
                f"{{'{name}': a Hypothesis strategy of numbers}}."
            ) from error
        ndims = declared.event_ndims or 0
        event = [_LENGTH] * ndims
        raw = _values(
            _UNCONSTRAINED, (BATCH, *bijector.inverse_event_shape(event))
        )
        drawn[name] = raw.map(partial(_constrained, bijector, ndims == 0))

    def build(values: dict[str, np.ndarray]) -> tfd.Distribution:
        return cls(
            **{k: ops.convert_to_tensor(v) for k, v in values.items()}, **fixed
        )

    return st.fixed_dictionaries(drawn).map(
        lambda values: _one_of_each(build, cls, values)
    )


def _one_of_each(
    build: Callable[[dict[str, np.ndarray]], tfd.Distribution],
    cls: type[tfd.Distribution],
    values: dict[str, np.ndarray],
) -> tfd.Distribution:
    """With all parameters, or the first of those that exclude one another.

    Such as `rate` and `log_rate`, each of which is None unless given.
    """
    signature = inspect.signature(cls.__init__).parameters
    optional = [
        name
        for name in values
        if name in signature and signature[name].default is None
    ]
    try:
        return build(values)
    except (TypeError, ValueError, AssertionError):
        # Tries fewer of them, beginning with the first ones.
        for size in range(len(optional) - 1, 0, -1):
            for kept in itertools.combinations(optional, size):
                dropped = set(optional) - set(kept)
                with contextlib.suppress(TypeError, ValueError, AssertionError):
                    return build(
                        {k: v for k, v in values.items() if k not in dropped}
                    )
        raise
