"""Accuracy: the largest error of each method beside mpmath, as a page.

Every distribution of this package is evaluated over a range of parameters and
values, in float32 and in float64, and compared with the mathematical definition
in mpmath: the density is normalised, and its moments, divergences and the tails
of Barron are integrated, by quadrature to 30 digits; the other tails are closed
forms; quantiles are roots. mpmath comes with the extra `test`.

    python benchmarks/accuracy.py

The worst case of every row is printed with its inputs.
"""

import argparse
import contextlib
import functools
import itertools
import math
import platform
import textwrap
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import keras
import mpmath
import numpy as np
from keras import ops
from mpmath import mpf

from tfp_vae.distributions import (
    AsymmetricLaplace,
    Barron,
    Bernoulli,
    Gibbs,
    Huber,
    HyperbolicSecant,
)
from tfp_vae.substrate import jit, tfd

BACKEND = keras.backend.backend()
DIGITS = 30
# Those of Barron's tails and of the divergences, of which there are thousands.
QUICK_DIGITS = 20
DTYPES = ("float32", "float64")

# All are run at these two pairs of loc and scale.
PLACES = ((0.0, 1.0), (0.3, 0.7))
# Residuals (y - loc) / scale, their size; both signs are run.
FARTHEST = 1e6
RESIDUALS = np.concatenate([[0.0], np.geomspace(1e-6, FARTHEST, 49)])
FEW_RESIDUALS = np.concatenate(
    [[0.0, 1e-3], np.geomspace(0.1, 12.8, 8), np.geomspace(40, FARTHEST, 5)]
)
# A tail is looked at to this many nats, about log 1e-30.
DEEPEST = 69.0
LEAST_MASS = 1e-30
MASSES = [1e-30, 1e-20, 1e-10, 1e-5, 1e-3, 0.03, 0.2, 0.4, 0.499, 0.5]
MASSES += [0.6, 0.9, 0.999, 1 - 1e-6]

DELTAS = (1e-4, 1e-3, 0.03, 0.3, 0.8, 1.0, 1.345, 2.0, 4.0, 10.0, 100.0, 1e4)
DELTAS = (*DELTAS, np.inf)
LEVELS = (1e-6, 1e-3, 0.1, 0.3, 0.5, 0.75, 0.9, 0.999, 1 - 1e-6)
ALPHAS = (0.0, 0.01, 0.1, 0.3, 0.7, 1.0, 1.4, 1.9, 1.9999, 2.0, 2.01, 2.6, 3.99)
LOGITS = np.concatenate([[0.0], np.geomspace(1e-6, FARTHEST, 97)])

KL_DELTAS = (1e-4, 0.3, 1.345, 6.0, 1e4, np.inf)
KL_DISTANCES = (0.0, 0.3, -3.0, FARTHEST)
KL_RATIOS = (1e-3, 1.0, 300.0)


# What is above this in float32 is listed below the table, with its reason.
BOUND = 1e-5
REASONS = {
    ("Huber", "d log_prob / d delta"): (
        "1/delta and r nearly cancel, and are rounded by that much."
    ),
    ("AsymmetricLaplace", "d log_prob / d quantile_level"): (
        "r and 1/(1-level) nearly cancel, and are rounded by that much."
    ),
    ("Barron", "survival_function"): (
        "The exponential of an energy above 60, where the spacing of float32 "
        "is 4e-6: three of them off."
    ),
}

INTRODUCTION = """\
# Accuracy, beside mpmath

Written by `python benchmarks/accuracy.py`, on {machine}, with
{versions}.

Each line has the largest error of a method on a grid over its range, in float32
and in float64, at inputs that are numbers of the precision. The exact values
come from the definitions, to {digits} digits ({quick} for divergences and the
tails of Barron): normalisers, moments, entropies, divergences and the tails of
Barron by quadrature, cut at the kinks; other tails in closed form; quantiles as
roots; gradients by differentiating under the integral.

- The error of a logarithm, an entropy, a divergence, a gradient or a quantile
  is |ours - exact| / max(|exact|, 1): a log density of about 0 is the
  difference of numbers of order 1.
- That of a probability or a moment is |ours - exact| / |exact|, in both tails,
  down to probabilities of {least}; of a mean that is 0, |ours|.
- `loc` and `scale` are {places}; r is (y - loc) / scale,
  of both signs, 0 included.
- For divergences the unit of a density is its scale, of Huber divided by
  min(delta, 1). Distances are in the larger of the two units; the ratio is that
  of the second to the first.
"""


class Exact:
    """A standard density exp(-energy(r)) / z, with what follows from it.

    Attributes:
        shape: the shape parameter.
        cuts: where integrals are cut, the ends included, beyond which less than
            1e-30 of the mass is left.
        kinks: where the energy is not smooth, for integrals of others.
    """

    cuts: list[mpf]
    kinks: list[mpf]

    def __init__(self, shape: float) -> None:
        self.shape = mpf(shape)
        self.prepare()
        self.z = self.integral(lambda r: mpf(1))
        self.log_z = mpmath.log(self.z)
        self.check()

    def check(self) -> None:
        """Raises ArithmeticError unless tails and density fit together."""
        inside = [k for k in self.kinks if 0 < k < 1]
        mass = mpmath.quad(
            lambda r: mpmath.exp(self.log_prob(r)), [0, *inside, 1]
        )
        zero, one = mpf(0), mpf(1)
        gaps = (
            self.lower(one) - self.lower(zero) - mass,
            self.lower(zero) + self.upper(zero) - 1,
        )
        if max(map(abs, gaps)) > 1e-18:
            raise ArithmeticError(f"{type(self).__name__}: {gaps}")

    def prepare(self) -> None:
        """Sets `cuts` and `kinks`."""
        raise NotImplementedError

    def energy(self, r: mpf) -> mpf:
        """Minus the log density, up to the constant."""
        raise NotImplementedError

    def slope(self, r: mpf) -> mpf:
        """The derivative of the energy in r."""
        raise NotImplementedError

    def slope_in_shape(self, r: mpf) -> mpf:
        """The derivative of the energy in the shape."""
        raise NotImplementedError

    def lower(self, r: mpf) -> mpf:
        """P(R < r)."""
        raise NotImplementedError

    def upper(self, r: mpf) -> mpf:
        """P(R > r)."""
        raise NotImplementedError

    def quantile(self, p: mpf) -> mpf:
        """The r with P(R < r) = p."""
        raise NotImplementedError

    def integral(self, function: Callable[[mpf], mpf]) -> mpf:
        """Of function(r) exp(-energy(r)) over the line."""
        return mpmath.quad(
            lambda r: function(r) * mpmath.exp(-self.energy(r)), self.cuts
        )

    def log_prob(self, r: mpf) -> mpf:
        return -self.energy(r) - self.log_z

    @functools.cached_property
    def mean(self) -> mpf:
        # Chopped, as an error relative to a 0 that is not quite 0 is none.
        return mpmath.chop(self.integral(lambda r: r) / self.z, 1e-25)

    @functools.cached_property
    def variance(self) -> mpf:
        square = self.integral(lambda r: (r - self.mean) ** 2)
        return square / self.z

    @functools.cached_property
    def entropy(self) -> mpf:
        return self.integral(self.energy) / self.z + self.log_z

    @functools.cached_property
    def log_z_slope(self) -> mpf:
        """The derivative of log z in the shape."""
        return -self.integral(self.slope_in_shape) / self.z


class Symmetric(Exact):
    """One that is symmetric about 0; `tail` is P(R > r) for r >= 0."""

    mean = mpf(0)

    def tail(self, r: mpf) -> mpf:
        raise NotImplementedError

    def at_score(self, y: mpf) -> mpf:
        """The r >= 0 with energy(r) = y**2 / 2, y >= 0."""
        raise NotImplementedError

    def lower(self, r: mpf) -> mpf:
        return self.upper(-r)

    def upper(self, r: mpf) -> mpf:
        return self.tail(r) if r >= 0 else 1 - self.tail(-r)

    def quantile(self, p: mpf) -> mpf:
        half = mpf(1) / 2
        if p == half:
            return mpf(0)
        return -self.root(p) if p < half else self.root(1 - p)

    def root(self, q: mpf) -> mpf:
        """The r > 0 with tail(r) = q.

        By Newton's method on log tail over the score y, sqrt(2 energy), where
        every tail looks like a normal one.
        """
        y, step = mpmath.sqrt(-2 * mpmath.log(2 * q)), mpmath.inf
        # A step doubles the digits.
        while abs(step) > y * mpf("1e-12"):
            r = self.at_score(y)
            tail = self.tail(r)
            hazard = mpmath.exp(self.log_prob(r)) / tail * y / self.slope(r)
            step = mpmath.log(tail / q) / hazard
            y += step
        return self.at_score(y)


class ExactHuber(Symmetric):
    """Of threshold `shape`, which may be infinite: then the normal."""

    def prepare(self) -> None:
        d = self.shape
        self.kinks = [] if d == mpmath.inf else [-d, d]
        side = [mpf(0), *(mpf(2) ** k for k in range(5) if 2**k < d)]
        if d <= 16:
            side += [d + mpf(k) / d for k in (0, 3, 10, 30, 80)]
        self.cuts = [-r for r in side[:0:-1]] + side

    def energy(self, r: mpf) -> mpf:
        inner = min(abs(r), self.shape)
        return inner * (abs(r) - inner / 2)

    def slope(self, r: mpf) -> mpf:
        return mpmath.sign(r) * min(abs(r), self.shape)

    def slope_in_shape(self, r: mpf) -> mpf:
        return max(abs(r) - self.shape, mpf(0))

    def tail(self, r: mpf) -> mpf:
        d = self.shape
        if r > d:
            return mpmath.exp(-self.energy(r)) / d / self.z
        # By erfc: differences of erf have no digits in the tail.
        centre = mpmath.erfc(r / mpmath.sqrt(2))
        beyond = mpf(0)
        if d != mpmath.inf:
            centre -= mpmath.erfc(d / mpmath.sqrt(2))
            beyond = mpmath.exp(-d * d / 2) / d
        return (mpmath.sqrt(mpmath.pi / 2) * centre + beyond) / self.z

    def at_score(self, y: mpf) -> mpf:
        d = self.shape
        return y if y <= d else y * y / 2 / d + d / 2


class ExactHyperbolicSecant(Symmetric):
    """It has no shape."""

    def prepare(self) -> None:
        self.kinks = []
        self.cuts = [mpf(k) for k in (-80, -30, -10, -3, 0, 3, 10, 30, 80)]

    def energy(self, r: mpf) -> mpf:
        return mpmath.log(mpmath.cosh(r))

    def slope(self, r: mpf) -> mpf:
        return mpmath.tanh(r)

    def tail(self, r: mpf) -> mpf:
        return 2 / mpmath.pi * mpmath.atan(mpmath.exp(-r))

    def at_score(self, y: mpf) -> mpf:
        return mpmath.acosh(mpmath.exp(y * y / 2))


class ExactAsymmetricLaplace(Exact):
    """Of quantile level `shape`."""

    def prepare(self) -> None:
        self.kinks = [mpf(0)]
        nats = [mpf(k) for k in (80, 30, 10, 3)]
        self.cuts = [-k / (1 - self.shape) for k in nats] + [mpf(0)]
        self.cuts += [k / self.shape for k in reversed(nats)]

    def energy(self, r: mpf) -> mpf:
        return r * self.slope(r)

    def slope(self, r: mpf) -> mpf:
        return self.shape - (1 if r < 0 else 0)

    def slope_in_shape(self, r: mpf) -> mpf:
        return r

    def lower(self, r: mpf) -> mpf:
        if r > 0:
            return 1 - self.upper(r)
        return self.shape * mpmath.exp((1 - self.shape) * r)

    def upper(self, r: mpf) -> mpf:
        if r <= 0:
            return 1 - self.lower(r)
        return (1 - self.shape) * mpmath.exp(-self.shape * r)

    def quantile(self, p: mpf) -> mpf:
        tau = self.shape
        if p < tau:
            return mpmath.log(p / tau) / (1 - tau)
        return -mpmath.log((1 - p) / (1 - tau)) / tau


class ExactBarron(Symmetric):
    """Of shape alpha; all but the energy by quadrature."""

    def prepare(self) -> None:
        """Cuts log r > 0, to where r**2 exp(-energy(r)) dr has died away."""
        self.kinks = []
        # Five methods ask for the same tails.
        self.tail = functools.cache(self.tail)
        power = 1 if self.shape == 0 else 3
        cuts = [mpf(k) for k in (-80, -40, -20, -10, -5, 0)]
        while power * cuts[-1] - self.energy(mpmath.exp(cuts[-1])) > -80:
            cuts.append(cuts[-1] + (5 if cuts[-1] < 20 else 20))
        self.cuts = cuts

    def integral(self, function: Callable[[mpf], mpf]) -> mpf:
        """Of an even function, in log r, for tails as long as Cauchy's."""

        def integrand(u: mpf) -> mpf:
            r = mpmath.exp(u)
            return function(r) * mpmath.exp(u - self.energy(r))

        return 2 * mpmath.quad(integrand, self.cuts)

    def energy(self, r: mpf) -> mpf:
        return self.energy_at(self.shape, r)

    def energy_at(self, alpha: mpf, r: mpf) -> mpf:
        b = abs(alpha - 2)
        if alpha == 0:
            return mpmath.log1p(r * r / 2)
        if alpha == 2:
            return r * r / 2
        power = mpmath.expm1(alpha / 2 * mpmath.log1p(r * r / b))
        return b / alpha * power

    def slope(self, r: mpf) -> mpf:
        if self.shape == 2:
            return r
        b = abs(self.shape - 2)
        return r * (1 + r * r / b) ** (self.shape / 2 - 1)

    def slope_in_shape(self, r: mpf) -> mpf:
        """From the right, as there is nothing to the left of 0."""
        return mpmath.diff(
            lambda alpha: self.energy_at(alpha, r), self.shape, direction=1
        )

    def tail(self, r: mpf) -> mpf:
        """In units of about the length of what is left of the tail."""
        unit = 1 / (self.slope(r) + 1 / (1 + r))
        base = self.energy(r)
        # So many digits cancel in the exponent.
        lost = max(0, int(mpmath.log10(1 + base)))
        with mpmath.workdps(QUICK_DIGITS + lost):
            integral = mpmath.quad(
                lambda t: mpmath.exp(base - self.energy(r + unit * t)),
                [0, 0.1, 1, 10, 100, mpmath.inf],
            )
        return unit * integral * mpmath.exp(-base) / self.z

    def at_score(self, y: mpf) -> mpf:
        alpha, s = self.shape, y * y / 2
        if alpha == 2:
            return y
        b = abs(alpha - 2)
        if alpha == 0:
            return mpmath.sqrt(2 * mpmath.expm1(s))
        power = mpmath.expm1(2 / alpha * mpmath.log1p(alpha * s / b))
        return mpmath.sqrt(b * power)


def short(value: float) -> str:
    """As 1e6, not 1e+06."""
    return f"{value:g}".replace("e+0", "e").replace("e-0", "e-")


def span(name: str, values: Iterable[float]) -> str:
    """The range of a parameter, in words."""
    finite = [value for value in values if np.isfinite(value)]
    words = f"{name} {short(min(finite))} to {short(max(finite))}"
    return words if len(finite) == len(values) else words + " and inf"


class Family(NamedTuple):
    """A distribution beside its definition.

    Attributes:
        make: from loc, scale and shape to the distribution.
        definition: the class of its exact counterpart.
        shape: the name of the shape parameter, or "" without one.
        shapes: those to run.
        span: their range, in words.
        residuals: from the shape to the sizes of the residuals to run.
        left_out: by method, where it is undefined: which shapes or residuals
            remain, in words, and whether a shape and a residual do not.
        farthest: the largest residual to run.
    """

    make: Callable[..., tfd.Distribution]
    definition: type[Exact]
    shape: str
    shapes: tuple[float, ...]
    span: str
    residuals: Callable[[float], np.ndarray]
    left_out: dict[str, tuple[str, Callable[[mpf, mpf], bool]]] = {}
    farthest: float = FARTHEST


def along_tail(length: float) -> np.ndarray:
    """Sizes of residuals, the denser in a tail of that decay length."""
    tail = length * np.linspace(1, DEEPEST, 35)
    return np.concatenate([RESIDUALS, tail[tail <= FARTHEST]])


def huber_residuals(delta: float) -> np.ndarray:
    """With some about the threshold, and down the tail."""
    if delta > 12:
        return np.concatenate([RESIDUALS, np.linspace(0.5, 12, 24)])
    about = delta * np.array([0.5, 0.999, 1.0, 1.001])
    return np.concatenate([along_tail(1 / delta), about])


def level_residuals(level: float) -> np.ndarray:
    """For the tails on both sides."""
    return np.concatenate([along_tail(1 / level), along_tail(1 / (1 - level))])


# An energy of Gibbs whose density is a family of its own, with its definition
# and shape.
ENERGIES: dict[str, tuple[Callable[[Any], Any], type[Exact], float]] = {
    "log cosh r": (
        lambda r: (
            ops.abs(r) + ops.log1p(ops.exp(-2.0 * ops.abs(r))) - math.log(2.0)
        ),
        ExactHyperbolicSecant,
        0.0,
    ),
    "Huber's energy, delta 1": (
        lambda r: ops.where(
            ops.abs(r) < 1.0, 0.5 * ops.square(r), ops.abs(r) - 0.5
        ),
        ExactHuber,
        1.0,
    ),
    "sqrt(1 + r**2)": (
        lambda r: ops.sqrt(1.0 + ops.square(r)),
        ExactBarron,
        1.0,
    ),
}


def gibbs(
    energy: Callable[[Any], Any], definition: type[Exact], shape: float
) -> Family:
    """Its densities count as zero 86 nats below the peak, in float32."""
    return Family(
        lambda loc, scale, _: Gibbs(energy, loc, scale),
        definition,
        "",
        (shape,),
        "",
        lambda _: along_tail(1.0),
        farthest=60.0,
    )


_ON_A_PANEL = (
    "Mass within a panel is a polynomial, whose terms cancel at its thin end."
)
REASONS |= {
    (f"Gibbs({name})", method): _ON_A_PANEL
    for name in ENERGIES
    for method in ("cdf", "survival_function", "quantile")
}


FAMILIES = {
    "Huber": Family(
        Huber,
        ExactHuber,
        "delta",
        DELTAS,
        span("delta", DELTAS),
        huber_residuals,
    ),
    "HyperbolicSecant": Family(
        lambda loc, scale, _: HyperbolicSecant(loc, scale),
        ExactHyperbolicSecant,
        "",
        (0.0,),
        "",
        lambda _: along_tail(1.0),
    ),
    "AsymmetricLaplace": Family(
        AsymmetricLaplace,
        ExactAsymmetricLaplace,
        "quantile_level",
        LEVELS,
        span("level", LEVELS),
        level_residuals,
        {"d log_prob / d loc": ("r not 0", lambda _, r: r == 0)},
    ),
    "Barron": Family(
        Barron,
        ExactBarron,
        "alpha",
        ALPHAS,
        span("alpha", ALPHAS),
        lambda _: FEW_RESIDUALS,
        {
            "mean": ("alpha not 0", lambda alpha, _: alpha == 0),
            "variance": ("alpha not 0", lambda alpha, _: alpha == 0),
            "d log_prob / d shape": (
                "alpha not 2",
                lambda alpha, _: alpha == 2,
            ),
        },
    ),
    **{f"Gibbs({name})": gibbs(*given) for name, given in ENERGIES.items()},
}


class Method(NamedTuple):
    """What a method should return, and how that is judged.

    Attributes:
        takes: "residual", "mass" or nothing, beside the parameters.
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
    """What a method gets, in numbers of its precision, and should return."""

    inputs: tuple[float, ...]
    exact: mpf


class Worst(NamedTuple):
    """The case of the largest error."""

    error: float
    case: Case
    found: float


class Row(NamedTuple):
    """A line of the table; the worst in each of `DTYPES`."""

    distribution: str
    method: str
    span: str
    worst: list[Worst]


def float64() -> Any:
    """A context in which float64 tensors are float64 on every backend."""
    if BACKEND == "jax":
        import jax

        # JAX 0.8 moved it out of `experimental`.
        enable = getattr(jax.experimental, "enable_x64", None)
        return (enable or jax.enable_x64)(True)
    return contextlib.nullcontext()


def derivative(function: Callable[..., Any], which: int) -> Callable[..., Any]:
    """Of an elementwise function, in one of its arguments."""

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
    """To the precision, so that the rounding of inputs is not counted."""
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
    with float64():
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


@functools.cache
def standard(definition: type[Exact], shape: float) -> Exact:
    """Each but once, for its integrals."""
    return definition(shape)


def cases(family: Family, name: str, dtype: str) -> Iterator[Case]:
    """All that a method is run at."""
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
    """From the parameters, and perhaps a value, to what a method returns."""
    if name.startswith("d "):
        which = ("loc", "scale", "shape").index(name.split()[-1])
        return derivative(method_of(family, "log_prob"), which)
    return lambda loc, scale, shape, *value: getattr(
        family.make(loc, scale, shape), name
    )(*value)


def family_rows() -> Iterator[Row]:
    """Every method of every family on the real line."""
    for kind, name in itertools.product(FAMILIES, METHODS):
        family, method = FAMILIES[kind], METHODS[name]
        if name.endswith("shape") and not family.shape:
            continue
        takes = {
            "residual": f"r to ±{short(family.farthest)}",
            "mass": f"p {short(LEAST_MASS)} to 1 - 1e-6",
        }
        spans = [family.span, takes.get(method.takes, "")]
        spans.append(family.left_out.get(name, ("",))[0])
        function = method_of(family, name)
        yield Row(
            kind,
            name.replace("shape", family.shape),
            ", ".join(filter(None, spans)) or "any",
            [
                worst(function, cases(family, name, d), d, method.measure)
                for d in DTYPES
            ],
        )


def bernoulli_cases(dtype: str, gradient: bool) -> Iterator[Case]:
    """Of 0 and 1, with P(1) = 1 / (1 + exp(-logits))."""
    values = rounded([*-LOGITS, *LOGITS], dtype)
    for logits, x in itertools.product(values, (0.0, 1.0)):
        # P(x) = 1 / (1 + away), without 1 less something near 1.
        away = mpmath.exp(mpf(logits) * (1 - 2 * int(x)))
        log_prob = -mpmath.log(1 + away)
        slope = (2 * int(x) - 1) * away / (1 + away)
        yield Case((logits, x), slope if gradient else log_prob)


def bernoulli_rows() -> Iterator[Row]:
    """Of the one method that is not TFP's."""

    def log_prob(logits: Any, x: Any) -> Any:
        return Bernoulli(logits).log_prob(x)

    for name, function in (
        ("log_prob", log_prob),
        ("d log_prob / d logits", derivative(log_prob, 0)),
    ):
        found = [
            worst(function, bernoulli_cases(d, function is not log_prob), d)
            for d in DTYPES
        ]
        yield Row("Bernoulli", name, f"logits to ±{short(FARTHEST)}", found)


class Relative(NamedTuple):
    """A family whose divergences from and to Huber are known.

    Attributes:
        make: from loc, scale and shape to the distribution.
        shapes: those to run; the scale is in units of min(shape, 1).
        standard: from the shape to the exact density of loc 0.
        width: the scale of that density, as a share of the distribution's.
    """

    make: Callable[..., tfd.Distribution]
    shapes: tuple[float, ...]
    standard: Callable[[float], Exact]
    width: float


RELATIVES = {
    "Huber": Relative(
        Huber, KL_DELTAS, lambda delta: standard(ExactHuber, delta), 1.0
    ),
    "Normal": Relative(
        lambda loc, scale, _: tfd.Normal(loc, scale),
        (1.0,),
        lambda _: standard(ExactHuber, np.inf),
        1.0,
    ),
    "Laplace": Relative(
        lambda loc, scale, _: tfd.Laplace(loc, scale),
        (1.0,),
        lambda _: standard(ExactAsymmetricLaplace, 0.5),
        0.5,
    ),
}
PAIRS = ("Huber Huber", "Huber Normal", "Normal Huber", "Huber Laplace")
PAIRS = (*PAIRS, "Laplace Huber")


def exact_kl(
    a: Exact, b: Exact, loc: mpf, scale: mpf, b_loc: mpf, b_scale: mpf
) -> mpf:
    """The integral of f_a log(f_a / f_b), cut where either has a kink."""

    def at(r: mpf) -> mpf:
        return (loc - b_loc + scale * r) / b_scale

    kinks = [(b_loc - loc + b_scale * k) / scale for k in b.kinks]
    inside = [k for k in kinks if a.cuts[0] < k < a.cuts[-1]]
    with mpmath.workdps(QUICK_DIGITS):
        difference = mpmath.quad(
            lambda r: (
                mpmath.exp(-a.energy(r)) * (b.energy(at(r)) - a.energy(r))
            ),
            sorted({*a.cuts, *inside}),
            method="gauss-legendre",
        )
    return difference / a.z + mpmath.log(b_scale / scale) + b.log_z - a.log_z


def kl_cases(a: Relative, b: Relative, dtype: str) -> Iterator[Case]:
    """Distances and ratios in units: how far a density reaches."""
    for shape, b_shape, distance, ratio in itertools.product(
        a.shapes, b.shapes, KL_DISTANCES, KL_RATIOS
    ):
        first = (0.25, 0.7 * min(shape, 1.0), shape)
        reach = 0.7 * max(ratio, 1.0)
        second = (
            0.25 + distance * reach,
            0.7 * ratio * min(b_shape, 1.0),
            b_shape,
        )
        inputs = rounded((*first, *second), dtype)
        loc, scale, _, b_loc, b_scale, _ = map(mpf, inputs)
        exact = exact_kl(
            a.standard(inputs[2]),
            b.standard(inputs[5]),
            loc,
            scale * a.width,
            b_loc,
            b_scale * b.width,
        )
        yield Case(inputs, exact)


def kl_of(a: Relative, b: Relative) -> Callable[..., Any]:
    """From the parameters of both to the divergence."""
    return lambda *p: tfd.kl_divergence(a.make(*p[:3]), b.make(*p[3:]))


def kl_rows() -> Iterator[Row]:
    """The divergences of Huber."""
    for pair in PAIRS:
        a, b = (RELATIVES[name] for name in pair.split())
        yield Row(
            pair.replace(" ", ", "),
            "kl_divergence",
            f"{span('delta', KL_DELTAS)}, distance to {short(FARTHEST)}, "
            f"{span('ratio', KL_RATIOS)}",
            [worst(kl_of(a, b), kl_cases(a, b, d), d) for d in DTYPES],
        )


def page(rows: list[Row]) -> str:
    """The page, in Markdown."""
    packages = [BACKEND, "keras", "tensorflow-probability", "mpmath"]
    introduction = INTRODUCTION.format(
        machine=platform.machine(),
        versions=", ".join(f"{p} {metadata.version(p)}" for p in packages),
        digits=DIGITS,
        quick=QUICK_DIGITS,
        least=short(LEAST_MASS),
        places=" and ".join(str(place) for place in PLACES),
    )
    lines = [introduction]
    lines.append("| distribution | method | range | float32 | float64 |")
    lines.append("| --- | --- | --- | --- | --- |")
    notes = []
    for row in rows:
        errors = " | ".join(f"{w.error:.1e}" for w in row.worst)
        lines.append(
            f"| {row.distribution} | {row.method} | {row.span} | {errors} |"
        )
        single = row.worst[0]
        if single.error > BOUND:
            inputs = ", ".join(f"{v:.9g}" for v in single.case.inputs)
            note = (
                f"- {row.distribution}, {row.method}, at ({inputs}): "
                f"{single.found:.9g}, exactly "
                f"{mpmath.nstr(single.case.exact, 9)}. "
                + REASONS.get((row.distribution, row.method), "")
            )
            notes.append(
                textwrap.fill(
                    note, 80, subsequent_indent="  ", break_on_hyphens=False
                )
            )
    lines.append(f"\n## Above {short(BOUND)} in float32\n")
    if notes:
        lines.append("At (loc, scale, shape, y or p):\n")
    lines += notes or ["None."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures all, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy.md"))
    options = parser.parse_args()
    mpmath.mp.dps = DIGITS
    rows = []
    for row in itertools.chain(family_rows(), kl_rows(), bernoulli_rows()):
        rows.append(row)
        print(row.distribution, row.method, sep=", ")
        for dtype, found in zip(DTYPES, row.worst, strict=True):
            exact = mpmath.nstr(found.case.exact, 17)
            print(
                f"  {dtype} {found.error:.1e} at {found.case.inputs}: "
                f"{found.found!r}, exactly {exact}",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(rows))
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
