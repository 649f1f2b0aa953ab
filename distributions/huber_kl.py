"""Kullback-Leibler divergences of Huber, Normal and Laplace in closed form.

Importing this module registers them with `tfd.kl_divergence`: Huber against
itself, against Normal and against Laplace, in both orders.
"""

import math
from typing import NamedTuple

import keras
from keras import ops

from tfp_vae.distributions.huber import Huber, _mills
from tfp_vae.substrate import Tensor, as_tensor, tfd

__all__: list[str] = []

_SQRT_2 = math.sqrt(2.0)
_SQRT_2PI = math.sqrt(2.0 * math.pi)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)

# Thresholds: one that makes a Laplace to the last bit (delta enters by its
# square), and one that acts as infinite. Above the last one, the mass of the
# tails of the first argument underflows even in float64.
_LAPLACE_DELTA = 1e-8
_NORMAL_DELTA = 1e15
_NO_TAILS_FROM = 40.0

# How many terms the series of `_mean_detour` and `_mean_decay` need for
# float64.
_SERIES_TERMS = 11
_DECAY_TERMS = 18


class _Member(NamedTuple):
    """A Huber density, in a unit that suits both the normal and the Laplace.

    `unit` is scale / min(delta, 1): the scale of a normal and that of a
    Laplace; in both cases it is about the width of the density.
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
        parameter = as_tensor(parameter)
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
# so its mean under a needs only integrals of E|Y - s| = |s| + 2 A(s) over the
# interval between b's thresholds, with A(s) = E max(Y - |s|, 0).


def _mean_decay(x: Tensor) -> Tensor:
    """(1 - exp(-x)) / x, the mean of exp(-s) over 0 <= s <= x."""
    is_near = x < 1.0
    close = ops.where(is_near, x, 0.0)
    near = 1.0
    for k in range(_DECAY_TERMS, 1, -1):
        near = 1.0 - close / k * near
    distant = ops.where(is_near, 1.0, x)
    return ops.where(is_near, near, -ops.expm1(-distant) / distant)


def _mean_detour(a: _Member, at: Tensor, reach: Tensor) -> Tensor:
    """The mean of E|Y - s| - at over |s - at| <= reach, at >= 0, reach < 1.

    The interval is cut at a's thresholds. Outside, A decays exponentially.
    Inside, E|Y - s| is, up to a factor and a constant, h(s) = exp(-s**2 / 2) +
    sqrt(pi / 2) s erf(s / sqrt 2) with s in scales, and h'' = exp(-s**2 / 2):
    so the mean of h over |s - m| <= n is h(m) + exp(-m**2 / 2) (n**2 / 3! +
    He2(m) n**4 / 5! + ...), where He are Hermite polynomials.
    """
    # The cuts, as shares of `reach`. As E|Y - s| is continuous, the mean has no
    # gradient in them; a gradient from rounding is kept out.
    width = ops.maximum(reach, 1e-30)
    first, last = (
        ops.stop_gradient(
            ops.minimum(ops.maximum((cut - at) / width, -1.0), 1.0)
        )
        for cut in (-a.threshold, a.threshold)
    )
    decay = a.tails / a.slope

    def outside(start: Tensor, share: Tensor) -> Tensor:
        # An empty interval starts inside, where this would overflow.
        past = ops.maximum(start - a.threshold, -1.0)
        mean = _mean_decay(2.0 * a.slope * share * reach)
        return decay * ops.exp(-a.slope * past) * mean

    share = 0.5 * (1.0 - last)
    detour = share * (0.5 * (last + 1.0) * reach)
    detour += share * outside(at + last * reach, share)
    share = 0.5 * (1.0 + first)
    detour += share * (0.5 * (1.0 - first) * reach - 2.0 * at)
    detour += share * outside(-(at + first * reach), share)

    # `where` and not `minimum`, which halves the gradient where both are equal.
    middle = at + 0.5 * (first + last) * reach
    middle = ops.where(middle > a.threshold, a.threshold, middle) / a.core
    half = 0.5 * (last - first) * reach / a.core
    term = bell = ops.exp(-0.5 * ops.square(middle))
    previous, series = 0.0, 0.0
    for order in range(2 * _SERIES_TERMS):
        if order % 2 == 0:
            series += term / float(math.factorial(order + 3))
        previous, term = term, half * (middle * term - order * half * previous)
    h = bell + _SQRT_HALF_PI * middle * ops.erf(middle / _SQRT_2)
    h += ops.square(half) * series
    inside = ops.square(a.core) * h + a.edge / ops.square(a.slope)
    return detour + 0.5 * (last - first) * (2.0 * inside / a.normalizer - at)


def _excess_distance(a: _Member, x: Tensor) -> Tensor:
    """The integral of A from 0 to x, bounded and odd in x.

    Only its absolute error is small, which is enough: where A is small, the
    other terms of the mean energy are large.
    """
    # `where` and not `abs`: the derivative at x = 0 must be A.
    size = ops.where(x < 0, -x, x)
    is_outer = size > a.threshold
    inner = ops.where(is_outer, a.threshold, size)
    scales = inner / a.core
    # The second repeated integral of the upper normal tail, from `scales` on.
    beyond = (1.0 + ops.square(scales)) * _mills(scales) - scales
    beyond *= 0.5 * ops.exp(-0.5 * ops.square(scales))
    centre = ops.power(a.core, 3) * (0.5 * _SQRT_HALF_PI - beyond)
    gap = 1.0 - a.delta * _mills(a.delta)
    per_slope = inner / a.slope
    centre += a.edge * per_slope * (1.0 / a.slope - 0.5 * gap * inner)
    outer = ops.where(is_outer, size - a.threshold, 0.0)
    decay = -ops.expm1(-a.slope * outer)
    total = centre / a.normalizer
    total += 0.5 * a.tails / ops.square(a.slope) * decay
    return ops.where(x < 0, -total, total)


def _mean_energy(a: _Member, b: _Member) -> Tensor:
    """The mean under a of b's energy.

    A narrow centre of b takes the mean directly. With a wide one the mean would
    cancel with threshold / 2, so it takes H(distance) plus the integral of A.
    """
    distance = ops.abs(a.loc - b.loc)
    at = distance / a.unit
    zoom = a.unit / b.unit
    reach = b.threshold * (b.unit / a.unit)
    is_narrow = reach < 1.0

    narrow = ops.where(is_narrow, reach, 0.0)
    detour = _mean_detour(a, at, narrow) - 0.5 * narrow
    by_mean = b.slope * (distance / b.unit + zoom * detour)

    wide = ops.where(is_narrow, 1.0, reach)
    core = ops.where(is_narrow, 1.0, b.core)
    r = distance / b.unit / core
    inner = ops.minimum(r, b.delta)
    excess = _excess_distance(a, wide + at) + _excess_distance(a, wide - at)
    by_excess = inner * (r - 0.5 * inner) + ops.square(zoom / core) * excess
    return ops.where(is_narrow, by_mean, by_excess)


def _kl(a: _Member, b: _Member) -> Tensor:
    """KL(a || b): b's mean energy under a, a's own, and the normalisers."""
    a = a._replace(delta=ops.minimum(a.delta, _NO_TAILS_FROM))
    divergence = (
        _mean_energy(a, b)
        - 0.5 * (1.0 + a.tails)
        + ops.log(b.unit / a.unit * (b.normalizer / a.normalizer))
    )
    # Where a and b are nearly equal, rounding could make it negative.
    return divergence + ops.stop_gradient(ops.relu(-divergence))


@tfd.RegisterKL(Huber, Huber)
@tfd.RegisterKL(Huber, tfd.Normal)
@tfd.RegisterKL(tfd.Normal, Huber)
@tfd.RegisterKL(Huber, tfd.Laplace)
@tfd.RegisterKL(tfd.Laplace, Huber)
def _kl_huber(
    a: tfd.Distribution, b: tfd.Distribution, name: str | None = None
) -> Tensor:
    """KL(a || b), in nats, of the broadcast batch shape."""
    dtype = keras.backend.standardize_dtype(a.dtype)
    return ops.cast(_kl(_member(a), _member(b)), dtype)
