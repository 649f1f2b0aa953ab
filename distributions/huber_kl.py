"""Kullback-Leibler divergences of Huber, Normal and Laplace in closed form.

Importing this module registers them with `tfd.kl_divergence`: Huber against
itself, against Normal and against Laplace, in both orders.
"""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from tfp_vae.distributions.huber import Huber, _mills
from tfp_vae.substrate import Tensor, tfd

__all__: list[str] = []

_SQRT_2 = math.sqrt(2.0)
_SQRT_2PI = math.sqrt(2.0 * math.pi)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)

# As thresholds: a Laplace to the last bit (delta enters by its square), and as
# good as infinite. From the last one on, the tails of the first argument have a
# mass that underflows even in float64.
_LAPLACE_DELTA = 1e-8
_NORMAL_DELTA = 1e15
_NO_TAILS_FROM = 40.0

# How many terms of `_mean_distance`'s series float64 needs.
_SERIES_TERMS = 11


class _Member(NamedTuple):
    """A Huber density, in a unit that suits the normal and the Laplace alike.

    `unit` is scale / min(delta, 1): the scale of a normal, that of a Laplace,
    and either way about as far as the density reaches.
    """

    loc: Tensor
    unit: Tensor
    delta: Tensor

    @property
    def core(self) -> Tensor:
        """The scale, in units."""
        return ops.minimum(self.delta, 1.0)

    @property
    def slope(self) -> Tensor:
        """The slope of the energy beyond the threshold, per unit."""
        return self.delta / self.core

    @property
    def threshold(self) -> Tensor:
        """The threshold, in units."""
        return self.delta * self.core

    @property
    def edge(self) -> Tensor:
        """The unnormalised normal density at the threshold."""
        return ops.exp(-0.5 * ops.square(self.delta))

    @property
    def normalizer(self) -> Tensor:
        """The integral of exp(-energy), in units; between 2 and 3."""
        centre = self.core * (_SQRT_2PI * ops.erf(self.delta / _SQRT_2))
        return centre + 2.0 * self.edge / self.slope

    @property
    def tails(self) -> Tensor:
        """The mass of both tails together."""
        return 2.0 * self.edge / (self.slope * self.normalizer)


def _member(distribution: tfd.Distribution) -> _Member:
    """Reads a Huber, Normal or Laplace, in float32 at least."""

    def widened(parameter: Tensor) -> Tensor:
        parameter = ops.convert_to_tensor(parameter)
        dtype = keras.backend.standardize_dtype(parameter.dtype)
        is_half = dtype in ("float16", "bfloat16")
        return ops.cast(parameter, "float32") if is_half else parameter

    loc, scale = widened(distribution.loc), widened(distribution.scale)
    if isinstance(distribution, tfd.Normal):
        return _Member(loc, scale, ops.full_like(scale, _NORMAL_DELTA))
    if isinstance(distribution, tfd.Laplace):
        return _Member(loc, scale, ops.full_like(scale, _LAPLACE_DELTA))
    delta = widened(distribution.delta)
    unit = scale / ops.minimum(delta, 1.0)
    return _Member(
        loc,
        unit,
        ops.minimum(ops.maximum(delta, _LAPLACE_DELTA), _NORMAL_DELTA),
    )


# Below, Y has a's density, with loc 0 and in a's units. b's energy is
#
#     H(y) = slope (mean of |y - s| over |s| <= threshold, less threshold / 2),
#
# so its mean under a asks for no more than integrals of E|Y - s| = |s| + 2 A(s)
# over the stretch between b's thresholds, with A(s) = E max(Y - |s|, 0).


def _mean_distance(a: _Member, at: Tensor, reach: Tensor) -> Tensor:
    """The mean of E|Y - s| over |s - at| <= reach, for at >= 0, reach <= 1.

    The stretch is cut at a's thresholds, into pieces placed relative to `at`.
    Outside, A decays exponentially. Inside, E|Y - s| is, up to a factor and a
    constant, h(s) = exp(-s**2 / 2) + sqrt(pi / 2) s erf(s / sqrt 2) with s in
    scales, and h'' = exp(-s**2 / 2): so the mean of h over |s - m| <= n is
    h(m) + exp(-m**2 / 2) (n**2 / 3! + He2(m) n**4 / 5! + ...), in which He are
    Hermite polynomials.
    """
    cut_left = ops.maximum(-a.threshold - at, -reach)
    cut_right = ops.minimum(ops.maximum(a.threshold - at, -reach), reach)
    left, right = cut_left + reach, reach - cut_right
    outside = right * (at + 0.5 * (cut_right + reach))
    outside -= left * (at + 0.5 * (cut_left - reach))
    start = ops.maximum(at - reach - a.threshold, 0.0)
    decays = ops.expm1(-a.slope * left)
    decays += ops.exp(-a.slope * start) * ops.expm1(-a.slope * right)
    outside -= a.tails / ops.square(a.slope) * decays

    middle = (at + 0.5 * (cut_left + cut_right)) / a.core
    middle = ops.minimum(middle, a.delta)
    half = 0.5 * (cut_right - cut_left) / a.core
    term = bell = ops.exp(-0.5 * ops.square(middle))
    previous, series = 0.0, 0.0
    for order in range(2 * _SERIES_TERMS):
        if order % 2 == 0:
            series += term / float(math.factorial(order + 3))
        previous, term = term, half * (middle * term - order * half * previous)
    h = bell + _SQRT_HALF_PI * middle * ops.erf(middle / _SQRT_2)
    h += ops.square(half) * series
    inside = ops.square(a.core) * h + a.edge / ops.square(a.slope)
    inside *= 2.0 / a.normalizer * (cut_right - cut_left)
    return (outside + inside) / (2.0 * reach)


def _excess_distance(a: _Member, x: Tensor) -> Tensor:
    """The integral of A from 0 to x, bounded and odd in x.

    Its terms are absolutely exact, no more: where A is small, the other terms
    of the mean energy are not.
    """
    # `where` and not `abs`: the derivative at x = 0 must be A.
    size = ops.where(x < 0, -x, x)
    inner = ops.minimum(size, a.threshold)
    scales = inner / a.core
    # The second repeated integral of the upper normal tail, from `scales` on.
    beyond = (1.0 + ops.square(scales)) * _mills(scales) - scales
    beyond *= 0.5 * ops.exp(-0.5 * ops.square(scales))
    centre = ops.power(a.core, 3) * (0.5 * _SQRT_HALF_PI - beyond)
    gap = 1.0 - a.delta * _mills(a.delta)
    per_slope = inner / a.slope
    centre += a.edge * per_slope * (1.0 / a.slope - 0.5 * gap * inner)
    outer = ops.maximum(size - a.threshold, 0.0)
    decay = -ops.expm1(-a.slope * outer)
    total = centre / a.normalizer
    total += 0.5 * a.tails / ops.square(a.slope) * decay
    return ops.where(x < 0, -total, total)


def _mean_energy(
    a: _Member, distance: Tensor, threshold: Tensor, slope: Tensor
) -> Tensor:
    """E H(Y - distance), distance >= 0, of b's energy H in a's units.

    A narrow centre of b takes the mean as it stands. A wide one would cancel
    with threshold / 2, and takes H(distance) plus the integral of A.
    """
    narrow = ops.minimum(threshold, 1.0)
    by_mean = slope * (_mean_distance(a, distance, narrow) - 0.5 * narrow)
    wide = ops.maximum(threshold, 1.0)
    inner = ops.minimum(distance, wide)
    by_excess = inner * (distance - 0.5 * inner)
    by_excess += _excess_distance(a, wide + distance)
    by_excess += _excess_distance(a, wide - distance)
    return ops.where(threshold < 1.0, by_mean, slope / wide * by_excess)


def _kl(a: _Member, b: _Member) -> Tensor:
    """KL(a || b): b's mean energy under a, a's own, and the normalisers."""
    a = a._replace(delta=ops.minimum(a.delta, _NO_TAILS_FROM))
    ratio = b.unit / a.unit
    energy = _mean_energy(
        a,
        distance=ops.abs(a.loc - b.loc) / a.unit,
        # So far from 0 that no gradient overflows, and so near that it is 0.
        threshold=ops.maximum(b.threshold * ratio, 1e-16),
        slope=b.slope / ratio,
    )
    divergence = (
        energy
        - 0.5 * (1.0 + a.tails)
        + ops.log(ratio * (b.normalizer / a.normalizer))
    )
    # Where a and b are nearly equal, rounding would show as less than nothing.
    return divergence + ops.stop_gradient(ops.relu(-divergence))


def _register(a_class: type, b_class: type) -> None:
    @tfd.RegisterKL(a_class, b_class)
    def kl(a: Any, b: Any, name: str | None = None) -> Tensor:
        dtype = keras.backend.standardize_dtype(a.dtype)
        return ops.cast(_kl(_member(a), _member(b)), dtype)


for _pair in (
    (Huber, Huber),
    (Huber, tfd.Normal),
    (tfd.Normal, Huber),
    (Huber, tfd.Laplace),
    (tfd.Laplace, Huber),
):
    _register(*_pair)
