"""What each method should return, and its error."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras
import mpmath
import numpy as np
from keras import ops
from mpmath import mpf
from oracles import Exact, standard

from accuracy.families import LEAST_MASS, PLACES, Family
from tfp_vae.substrate import double_precision, jit

BACKEND = keras.backend.backend()
DTYPES = ("float32", "float64")
MASSES = [1e-30, 1e-20, 1e-10, 1e-5, 1e-3, 0.03, 0.2, 0.4, 0.499, 0.5]
MASSES += [0.6, 0.9, 0.999, 1 - 1e-6]


class Method(NamedTuple):
    """What a method should return, and how its error is measured.

    Attributes:
        takes: "residual", "mass" or nothing, in addition to the parameters.
        exact: from the standard density, the residual or mass, loc and scale.
        measure: "logarithm", "probability" or "moment".
    """

    takes: str
    exact: Callable[[Exact, mpf, mpf, mpf], mpf]
    measure: str = "logarithm"


METHODS = {
    "log_prob": Method(
        "residual", lambda e, r, m, s: e.log_prob(r) - mpmath.log(s)
    ),
    "log_cdf": Method("residual", lambda e, r, m, s: mpmath.log(e.lower(r))),
    "log_survival_function": Method(
        "residual", lambda e, r, m, s: mpmath.log(e.upper(r))
    ),
    "cdf": Method("residual", lambda e, r, m, s: e.lower(r), "probability"),
    "survival_function": Method(
        "residual", lambda e, r, m, s: e.upper(r), "probability"
    ),
    "quantile": Method("mass", lambda e, p, m, s: m + s * e.quantile(p)),
    "mean": Method("", lambda e, _, m, s: m + s * e.mean, "moment"),
    "variance": Method("", lambda e, _, m, s: s * s * e.variance, "moment"),
    "entropy": Method("", lambda e, _, m, s: e.entropy + mpmath.log(s)),
    "d log_prob / d loc": Method("residual", lambda e, r, m, s: e.slope(r) / s),
    "d log_prob / d scale": Method(
        "residual", lambda e, r, m, s: (r * e.slope(r) - 1) / s
    ),
    "d log_prob / d shape": Method(
        "residual", lambda e, r, m, s: -e.slope_in_shape(r) - e.log_z_slope
    ),
}


class Case(NamedTuple):
    """The inputs of a method, in its precision, and the exact result."""

    inputs: tuple[float, ...]
    exact: mpf


class Worst(NamedTuple):
    """The case of the largest error."""

    error: float
    case: Case
    found: float


class Row(NamedTuple):
    """A line of the table, with the worst case in each of `DTYPES`."""

    distribution: str
    method: str
    span: str
    worst: list[Worst]


def derivative(function: Callable[..., Any], which: int) -> Callable[..., Any]:
    """The derivative of an elementwise function in one of its arguments."""

    def found(*arguments: Any) -> Any:
        if BACKEND == "jax":
            import jax

            return jax.grad(lambda *a: ops.sum(function(*a)), which)(*arguments)
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(arguments[which])
            value = function(*arguments)
        return tape.gradient(value, arguments[which])

    return found


def rounded(values: Iterable[float], dtype: str) -> tuple[float, ...]:
    """Rounded numbers, so that the rounding of inputs is not counted."""
    return tuple(np.array(list(values), dtype).tolist())


def worst(
    function: Callable[..., Any],
    cases: Iterable[Case],
    dtype: str,
    measure: str = "logarithm",
) -> Worst:
    """Runs a method at all cases at once.

    Args:
        function: of columns of inputs.
        cases: to run.
        dtype: to run in.
        measure: as in `Method`.

    Returns:
        The case of the largest error.
    """
    cases = list(cases)
    if measure == "probability":
        cases = [case for case in cases if case.exact >= LEAST_MASS]
    with double_precision():
        columns = [
            ops.convert_to_tensor(np.array(column, dtype))
            for column in zip(*(case.inputs for case in cases), strict=True)
        ]
        found = ops.convert_to_numpy(jit(function)(*columns))
    if found.dtype != dtype:
        raise TypeError(f"{dtype} became {found.dtype}.")
    least = mpf(1) if measure == "logarithm" else mpf(0)

    def error(value: float, exact: mpf) -> float:
        if value == exact:
            return 0.0
        if not np.isfinite(value):
            return np.inf
        return float(abs(mpf(value) - exact) / (max(abs(exact), least) or 1))

    return max(
        Worst(error(value, case.exact), case, value)
        for value, case in zip(found.tolist(), cases, strict=True)
    )


def cases(family: Family, name: str, dtype: str) -> Iterator[Case]:
    """All cases of a method."""
    method = METHODS[name]
    _, is_left_out = family.left_out.get(name, ("", lambda *_: False))
    for place, shape in itertools.product(PLACES, family.shapes):
        inputs = rounded((*place, shape), dtype)
        loc, scale, shape = map(mpf, inputs)
        density = standard(family.definition, inputs[-1])
        if method.takes == "residual":
            sizes = family.residuals(inputs[-1])
            sizes = sizes[sizes <= family.farthest]
            r = np.unique(np.concatenate([-sizes, sizes]))
            values = rounded(place[0] + place[1] * r, dtype)
        else:
            values = rounded(MASSES, dtype) if method.takes else (None,)
        for value in values:
            given = value
            if method.takes == "residual":
                given = (mpf(value) - loc) / scale
            elif method.takes:
                given = mpf(value)
            if not is_left_out(shape, given):
                exact = method.exact(density, given, loc, scale)
                yield Case(inputs if value is None else (*inputs, value), exact)


def method_of(family: Family, name: str) -> Callable[..., Any]:
    """From the parameters, and perhaps a value, to the result of a method."""
    if name.startswith("d "):
        which = ("loc", "scale", "shape").index(name.split()[-1])
        return derivative(method_of(family, "log_prob"), which)
    return lambda loc, scale, shape, *value: getattr(
        family.make(loc, scale, shape), name
    )(*value)
