"""The standard density of Barron's family, loc 0 and scale 1, by its shape.

f(r) = exp(-rho(r)) / Z. With b = |alpha - 2| and L = log(1 + r**2 / b),
rho = b / alpha (exp(alpha L / 2) - 1). Integrals are taken over the score
y = sqrt(2 rho), in which every member of the family looks like a normal: the
density of y is exp(-y**2 / 2) dr/dy / Z, with dr/dy between 1 for the normal
and about exp(y**2 / 4) for the Cauchy.
"""

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.barron_tables import (
    LOG_Z_ABOVE_2,
    LOG_Z_BELOW_1,
    LOG_Z_BELOW_2,
)
from tfp_vae.distributions.quadrature import gauss_legendre, log_sum_exp
from tfp_vae.substrate import Tensor, ndtri

__all__ = [
    "expected_energy",
    "log_normalizer",
    "log_reach",
    "log_upper_tail",
    "log_variance",
    "rho",
    "tail_quantile",
]

_LOG_2 = math.log(2.0)
_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)

# For each precision: the smallest value of |alpha - 2| in use, as its logarithm
# is infinite at 0 (it is below the spacing of numbers about 2); the size below
# which Chebyshev coefficients are left out; the number
# of nodes of a tail integral; and the nats after which it is cut off.
_FLOOR = {"float32": 1e-10, "float64": 1e-20}
_COEFFICIENTS_FROM = {"float32": 1e-9, "float64": 0.0}
_NODES = {"float32": 20, "float64": 44}
_CUT = {"float32": 20.0, "float64": 37.0}
# Below this the score equals the residual, to the last bit.
_SMALL = {"float32": 1e-4, "float64": 1e-8}
_LARGEST_SCORE = {"float32": 1e13, "float64": 1e100}
# The log of about the smallest number.
_LOG_TINY = {"float32": -87.0, "float64": -700.0}
_NEWTON_STEPS = {"float32": 2, "float64": 3}
_VARIANCE_NODES = 80


def _precision(tensor: Tensor) -> str:
    return keras.backend.standardize_dtype(tensor.dtype)


def _distance_from_2(alpha: Tensor) -> Tensor:
    """b = |alpha - 2|, never quite 0."""
    return ops.maximum(ops.abs(alpha - 2.0), _FLOOR[_precision(alpha)])


def _log1p_square(h: Tensor) -> Tensor:
    """Log(1 + h**2), h >= 0, without overflow."""
    # `where` and not `minimum` and `maximum`: at 1 only one of the two moves.
    is_large = h > 1.0
    large = ops.where(is_large, h, 1.0)
    ratio = ops.where(is_large, 1.0, h) / large
    return 2.0 * ops.log(large) + ops.log1p(ratio * ratio)


def _expm1_ratio(x: Tensor) -> Tensor:
    """(exp(x) - 1) / x, smooth at 0."""
    small = ops.abs(x) < 0.5
    near = ops.where(small, x, 0.0)
    far = ops.where(small, 1.0, x)
    series = ops.ones_like(x)
    for n in range(14, 1, -1):
        series = 1.0 + series * near / n
    return ops.where(small, series, ops.expm1(far) / far)


def _log1p_ratio(z: Tensor) -> Tensor:
    """Log(1 + z) / z for z >= 0, smooth at 0: log(1 + z) = 2 artanh(t)."""
    small = z < 0.5
    near = ops.where(small, z, 0.0)
    far = ops.where(small, 1.0, z)
    t = near / (2.0 + near)
    series = ops.zeros_like(z)
    for n in range(21, 0, -2):
        series = 1.0 / n + t * t * series
    return ops.where(small, series * 2.0 / (2.0 + near), ops.log1p(far) / far)


def _overflows_from(alpha: Tensor) -> Tensor:
    """The size of residual whose energy is about the largest number, or inf.

    From log(1 + r**2 / b) = (2 / alpha) log(1 + alpha rho / b).
    """
    log_largest = math.log(np.finfo(_precision(alpha)).max)
    # Below 1/2 the energy of every number is a number.
    is_light = alpha > 0.5
    shape = ops.where(is_light, alpha, 1.0)
    log_b = ops.log(_distance_from_2(shape))
    # A 16th of it, as the gradient subtracts multiples of the energy.
    log_energy = log_largest - math.log(16.0)
    growth = 2.0 / shape * (ops.log(shape) + log_energy - log_b)
    log_r = 0.5 * (log_b + growth + ops.log(-ops.expm1(-growth)))
    return ops.stop_gradient(
        ops.where(is_light & (log_r < log_largest), ops.exp(log_r), math.inf)
    )


def _energy_beyond(size: Tensor, is_over: Tensor, q: Tensor) -> Tensor:
    """inf, with the derivative r e**q of the energy, which may be finite."""
    precision = _precision(size)
    largest = float(np.finfo(precision).max)
    is_infinite = size == math.inf
    far = ops.where(is_over & ~is_infinite, size, largest)
    log_slope = ops.log(far) + q
    # The slope is neither 0 nor inf, as it may be multiplied by the other.
    slope = ops.stop_gradient(
        ops.exp(
            ops.clip(log_slope, _LOG_TINY[precision], math.log(largest) - 1e-4)
        )
    )
    return ops.where(
        is_infinite,
        ops.where(is_infinite, size, 0.0) * slope,
        math.inf + (far - ops.stop_gradient(far)) * slope,
    )


def rho(size: Tensor, alpha: Tensor) -> Tensor:
    """The energy of residuals of a given size.

    Below alpha = 1 as b L / 2 (exp(x) - 1) / x, x = alpha L / 2, which is fine
    at alpha = 0; from there on as (r**2 e**q + b (e**q - 1)) / alpha,
    q = (alpha / 2 - 1) L, which is exact at alpha = 2.

    Args:
        size: |r|; may be inf.
        alpha: the shape; the two broadcast.

    Returns:
        The energies, in nats: inf where they overflow. There alpha has no
        gradient, and r has its gradient if that is finite.
    """
    largest = float(np.finfo(_precision(size)).max)
    b = _distance_from_2(alpha)
    is_over = (size > _overflows_from(alpha)) | (size == math.inf)
    finite = ops.where(size == math.inf, largest, size)
    log_ratio = _log1p_square(ops.minimum(finite / ops.sqrt(b), largest))
    is_low = alpha < 1.0
    low = ops.where(is_low, alpha, 0.5)
    high = ops.where(is_low, 1.0, alpha)
    q = (0.5 * high - 1.0) * log_ratio
    beyond = _energy_beyond(size, is_over, (0.5 * alpha - 1.0) * log_ratio)
    log_ratio = ops.where(is_over, 0.0, log_ratio)
    q = ops.where(is_over, 0.0, q)
    size = ops.where(is_over, 0.0, size)
    # Neither this nor its gradient overflows before rho does: for huge
    # residuals a square root moves into the exponent.
    shift = ops.stop_gradient(0.5 * ops.log(ops.where(size > 1e10, size, 1.0)))
    root = size * ops.exp(-shift) * ops.exp(0.5 * q + shift)
    energy = ops.where(
        is_low,
        0.5 * b * log_ratio * _expm1_ratio(0.5 * low * log_ratio),
        (root * root + b * ops.expm1(q)) / high,
    )
    return ops.where(is_over, beyond, energy)


def _energy_and_score(size: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """rho and y = sqrt(2 rho), for size = |r|; near 0, y is |r| itself.

    The score is cut off before its square overflows: so far out, only its
    logarithm is used.
    """
    precision = _precision(size)
    small = size < _SMALL[precision]
    energy = rho(ops.where(small, 1.0, size), alpha)
    highest = 0.5 * _LARGEST_SCORE[precision] ** 2
    size = ops.where(small, size, 0.0)
    return (
        ops.where(small, 0.5 * size * size, energy),
        ops.where(small, size, ops.sqrt(2.0 * ops.minimum(energy, highest))),
    )


def _inverse_score(y: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Log r and log dr/dy, for the r > 0 of a score y > 0.

    With s = y**2 / 2, W = (2 / alpha) log(1 + alpha s / b) and
    k = (1 - alpha / 2) W: r**2 = alpha s e**k + b (e**k - 1), with almost no
    cancellation up to alpha = 4, or b (e**W - 1), with none beyond; and
    dr/dy = y e**k / r.
    """
    b = _distance_from_2(alpha)
    s = 0.5 * y * y
    w = 2.0 * s / b * _log1p_ratio(alpha * s / b)
    k = (1.0 - 0.5 * alpha) * w
    is_large = alpha > 4.0
    growth = ops.where(is_large, w, k)
    slope = ops.where(is_large, 0.0, alpha)
    root = ops.sqrt(slope * s - b * ops.expm1(-growth))
    return (
        0.5 * growth + ops.log(root),
        k - 0.5 * growth + ops.log(y / root),
    )


def log_reach(nats: float, alpha: Tensor) -> Tensor:
    """The log of the residual whose energy is so many nats.

    Args:
        nats: the energy, positive.
        alpha: the shape.

    Returns:
        The logs, of the shape of alpha.
    """
    y = ops.full_like(alpha, math.sqrt(2.0 * nats))
    return _inverse_score(y, alpha)[0]


@functools.cache
def _power_series(table: tuple[float, ...], precision: str) -> list[float]:
    """A Chebyshev series, as far as `precision` needs it, in powers of t."""
    kept = [c for c in table if abs(c) > _COEFFICIENTS_FROM[precision]]
    return np.polynomial.chebyshev.cheb2poly(kept).tolist()


def _chebyshev(x: Tensor, table: tuple[float, ...]) -> Tensor:
    """The series of T_n(t), t = 2 x - 1, 0 <= x <= 1, by Horner's rule.

    Not by Clenshaw's: a recurrence with two terms makes XLA's fusion take
    minutes, since it copies shared terms again and again. The coefficients fall
    so fast that the powers of t lose almost no digits.
    """
    t = 2.0 * x - 1.0
    *low, total = _power_series(table, _precision(x))
    total = total * ops.ones_like(t)
    for coefficient in reversed(low):
        total = coefficient + t * total
    return total


def log_normalizer(alpha: Tensor) -> Tensor:
    """Log Z(alpha), with its derivative.

    At alpha = 0 log Z has all its derivatives from the right, but no Taylor
    series that converges; at 2 it goes as log sqrt(2 pi) + (alpha - 2) (log b
    / 4 + series in sqrt(b) and log b). So the fits are in a variable that
    stretches alpha about 0, and in a root of b about 2.

    Args:
        alpha: the shape.

    Returns:
        Log Z, of the same shape, in nats; NaN below alpha = 0.
    """
    is_low, is_high = alpha < 1.0, alpha > 2.0
    low = ops.where(is_low, alpha, 0.5)
    near_0 = _chebyshev(1.4 * low / (0.4 + low), LOG_Z_BELOW_1)

    b = _distance_from_2(ops.where(is_low, 1.5, alpha))
    beta = ops.where(is_high, b / (1.0 + b), b)
    log_beta = ops.log(beta)
    root = ops.exp(log_beta / 6.0)
    about_2 = 0.25 * log_beta + ops.where(
        is_high,
        _chebyshev(root, LOG_Z_ABOVE_2),
        _chebyshev(root, LOG_Z_BELOW_2),
    )
    difference = ops.where(is_high, beta, alpha - 2.0)
    log_z = ops.where(is_low, near_0, _LOG_SQRT_2PI + difference * about_2)
    return ops.where(alpha < 0.0, math.nan, log_z)


def _log_tail_integral(y: Tensor, alpha: Tensor) -> Tensor:
    """log of the integral of exp(rho(r) - rho(t)) over t > r, y the score of r.

    By Gauss-Legendre in u, with the score y + reach u**3: the cube makes the
    nodes dense where a small b bends the density at the centre.
    """
    precision = _precision(y)
    nodes, weights = (
        ops.convert_to_tensor(a, precision)
        for a in gauss_legendre(_NODES[precision])
    )
    y, alpha = y[..., None], alpha[..., None]
    cut = 4.0 * _CUT[precision]
    reach = ops.stop_gradient(cut / (y + ops.sqrt(y * y + cut)))
    step = reach * nodes**3
    _, log_slope = _inverse_score(y + step, alpha)
    return log_sum_exp(
        log_slope - step * (y + 0.5 * step), 3.0 * weights * nodes**2 * reach
    )


def log_upper_tail(size: Tensor, alpha: Tensor) -> Tensor:
    """Log P(R > r), r >= 0.

    From rho itself: the square of its root would add a rounding.

    Args:
        size: r.
        alpha: the shape, of the same shape as r.

    Returns:
        The log probabilities, in nats.
    """
    energy, y = _energy_and_score(size, alpha)
    return _log_tail_integral(y, alpha) - energy - log_normalizer(alpha)


def _newton(_: Any, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A step in the score y, towards a P whose normal quantile is `target`.

    A function of the module, so that JAX need not compile it again each time.
    """
    y, target, alpha, log_z = state
    precision = _precision(y)
    y = ops.maximum(y, _SMALL[precision])
    log_tail = _log_tail_integral(y, alpha) - 0.5 * y * y - log_z
    now = -ndtri(ops.exp(ops.maximum(log_tail, _LOG_TINY[precision])))
    log_density = _inverse_score(y, alpha)[1] - 0.5 * y * y - log_z
    slope = ops.exp(log_density + 0.5 * now * now + _LOG_SQRT_2PI)
    return y + (target - now) / slope, target, alpha, log_z


def tail_quantile(q: Tensor, alpha: Tensor) -> Tensor:
    """The r >= 0 with P(R > r) = q, for 0 <= q <= 1/2.

    Newton's method in the score, for the normal quantile of P: that is the
    score itself if alpha = 2, and close to linear in it for every alpha. Only a
    last step, in r and log P, is differentiated: it is of third order
    (Halley's), so that first and second derivatives are right.

    Args:
        q: probabilities.
        alpha: the shape; the two broadcast.

    Returns:
        r, inf for q = 0.
    """
    precision = _precision(q)
    # `ndtri` asks for one shape.
    alpha = alpha + ops.zeros_like(q)
    q = q + ops.zeros_like(alpha)
    inside = ops.where(q == 0.0, 0.5, q)
    fixed = ops.stop_gradient(alpha)
    target = -ndtri(ops.stop_gradient(inside))

    y, *_ = ops.fori_loop(
        0,
        _NEWTON_STEPS[precision],
        _newton,
        (target, target, fixed, log_normalizer(fixed)),
    )
    y = ops.maximum(y, _SMALL[precision])
    log_r, log_slope = _inverse_score(y, fixed)
    r, rate = (ops.stop_gradient(ops.exp(t)) for t in (log_r, log_slope))
    energy, y = _energy_and_score(r, alpha)
    log_integral = _log_tail_integral(y, alpha)
    error = log_integral - energy - log_normalizer(alpha) - ops.log(inside)
    # With P / f = exp(log_integral): d log P / dr = -f / P, and
    # d**2 log P / dr**2 = f / P (rho' - f / P).
    step = ops.exp(log_integral) * error
    slope = ops.stop_gradient(y / rate) - ops.exp(-log_integral)
    r = r + step + 0.5 * (slope * step) * step
    return ops.where(q == 0.0, math.inf, r)


def expected_energy(alpha: Tensor) -> Tensor:
    """E[rho] = E[y**2] / 2.

    Args:
        alpha: the shape.

    Returns:
        The expectations, of the same shape, in nats.
    """
    precision = _precision(alpha)
    nodes, weights = (
        ops.convert_to_tensor(a, precision)
        for a in gauss_legendre(_NODES[precision])
    )
    reach = 2.0 * math.sqrt(_CUT[precision])
    y = reach * nodes**3
    _, log_slope = _inverse_score(y, alpha[..., None])
    log_density = log_slope - 0.5 * y * y - log_normalizer(alpha)[..., None]
    return ops.sum(
        3.0 * reach * weights * nodes**2 * y * y * ops.exp(log_density),
        axis=-1,
    )


def log_variance(alpha: Tensor) -> Tensor:
    """Log E[r**2], alpha > 0.

    As alpha falls to 0 the mass of the integral moves out to a bump of width
    1.2 about the score sqrt(2 / alpha), and E[r**2] rises as exp(0.22 / alpha).

    Args:
        alpha: the shape.

    Returns:
        The log variances, of the same shape.
    """
    nodes, weights = (
        ops.convert_to_tensor(a, _precision(alpha))
        for a in gauss_legendre(_VARIANCE_NODES)
    )
    reach = 12.0 + ops.sqrt(2.0 / alpha[..., None])
    y = reach * nodes
    log_r, log_slope = _inverse_score(y, alpha[..., None])
    log_terms = 2.0 * log_r + log_slope - 0.5 * y * y
    return (
        _LOG_2 + log_sum_exp(log_terms, weights * reach) - log_normalizer(alpha)
    )
