"""Kullback-Leibler divergences that have no closed form, by quadrature.

Importing this module registers `HyperbolicSecant` and `Barron` with each other
and with themselves, each of them with Normal and Laplace in both orders, and
`Gibbs` with itself.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.barron import Barron
from tfp_vae.distributions.barron_density import log_normalizer, log_reach, rho
from tfp_vae.distributions.energy import energy_at
from tfp_vae.distributions.gibbs import Gibbs
from tfp_vae.distributions.hyperbolic_secant import (
    HyperbolicSecant,
    _log_cosh,
)
from tfp_vae.distributions.quadrature import gauss_legendre
from tfp_vae.substrate import Tensor, as_tensor, tfd

__all__: list[str] = []

# Nodes on a panel, and panels on each side of each centre.
_NODES = {"float32": 8, "float64": 14}
_PANELS = 32
# The first panel, in scales of the narrower density; each of the others is
# longer than the one before, by a constant factor.
_FIRST = 0.05
# In nats, how far a density is followed: beyond, no mass is left.
_REACH = {"float32": 80.0, "float64": 160.0}
# Acts as log 0, but is finite.
_LOG_0 = -1e30


class _Standard(NamedTuple):
    """A density symmetric about `loc`: exp(-energy(|r|) - log_z) / scale."""

    loc: Tensor
    scale: Tensor
    energy: Callable[[Tensor], Tensor]
    log_z: Tensor
    #: From nats to the log of the residual of that energy.
    log_reach: Callable[[float], Tensor]


def _family(distribution: tfd.Distribution) -> type[tfd.Distribution]:
    """The family below that it belongs to, if it has that family's density."""
    family = next(cls for cls in _FAMILIES if isinstance(distribution, cls))
    if type(distribution)._log_prob is not family._log_prob:
        raise NotImplementedError(
            f"The KL divergence of {family.__name__} is not that of "
            f"{type(distribution).__name__}, which derives from it and has a "
            "_log_prob of its own. Register one by tfd.RegisterKL."
        )
    return family


def _standard(distribution: tfd.Distribution) -> _Standard:
    """Reads one of the families below, in float32 at least."""

    def widened(parameter: Tensor) -> Tensor:
        parameter = as_tensor(parameter)
        dtype = keras.backend.standardize_dtype(parameter.dtype)
        is_half = dtype in ("float16", "bfloat16")
        return ops.cast(parameter, "float32") if is_half else parameter

    family = _family(distribution)
    loc, scale = widened(distribution.loc), widened(distribution.scale)
    if family is Barron:
        alpha = widened(distribution.alpha)
        return _Standard(
            loc,
            scale,
            lambda size: rho(size, alpha[..., None, None]),
            log_normalizer(alpha),
            lambda nats: log_reach(nats, alpha),
        )
    energy, log_z, reach = {
        HyperbolicSecant: (_log_cosh, math.log(math.pi), lambda n: n + 1.0),
        tfd.Normal: (
            lambda size: 0.5 * size * size,
            0.5 * math.log(2.0 * math.pi),
            lambda n: math.sqrt(2.0 * n),
        ),
        tfd.Laplace: (lambda size: size, math.log(2.0), lambda n: n),
    }[family]
    return _Standard(
        loc,
        scale,
        energy,
        ops.full_like(scale, log_z),
        lambda nats: ops.full_like(scale, math.log(reach(nats))),
    )


def _excess(x: Tensor) -> Tensor:
    """exp(x) - 1 - x, relatively exact about 0."""
    is_near = ops.abs(x) < 0.5
    near = ops.where(is_near, x, 0.0)
    series = ops.ones_like(x)
    for n in range(15, 2, -1):
        series = 1.0 + series * near / n
    far = ops.where(is_near, 1.0, x)
    return ops.where(
        is_near, 0.5 * near * near * series, ops.exp(far) - 1.0 - far
    )


def _kl(a: _Standard, b: _Standard) -> Tensor:
    """The integral of p (exp(d) - 1 - d), d = log q - log p, for a's p, b's q.

    As p and q both integrate to 1, this is KL(p || q), and no term is negative:
    nothing cancels where the two are nearly equal. It uses Gauss-Legendre on
    panels to both sides of both centres, in units of a's scale; they grow
    geometrically away from each centre, so that narrow, wide and heavy-tailed
    densities are all resolved. They meet in the middle between the centres.
    """
    dtype = keras.backend.standardize_dtype(a.scale.dtype)

    def column(parameter: Tensor) -> Tensor:
        return parameter[..., None, None]

    zoom, shift = column(a.scale / b.scale), column((b.loc - a.loc) / a.scale)
    # No gradient in the panels: an integral does not depend on its nodes.
    fixed_zoom, fixed_shift = ops.stop_gradient(zoom), ops.stop_gradient(shift)
    log_first = math.log(_FIRST) - ops.log(ops.maximum(fixed_zoom, 1.0))
    log_last = ops.stop_gradient(
        ops.maximum(
            column(a.log_reach(_REACH[dtype])),
            column(b.log_reach(_REACH[dtype])) - ops.log(fixed_zoom),
        )
    )
    growth = np.linspace(0.0, 1.0, _PANELS)[:, None]
    growth = ops.convert_to_tensor(growth, dtype)
    edges = ops.exp(log_first + growth * (log_last - log_first))
    edges = ops.concatenate([0.0 * edges[..., :1, :], edges], axis=-2)
    half_way = 0.5 * ops.abs(fixed_shift)
    nodes, weights = (
        ops.convert_to_tensor(x, dtype) for x in gauss_legendre(_NODES[dtype])
    )
    total = 0.0
    for side, from_a in itertools.product((-1.0, 1.0), (True, False)):
        # Towards the other centre: if they coincide, b counts as to the right.
        is_inward = (fixed_shift >= 0.0) == ((side > 0.0) == from_a)
        ends = ops.where(is_inward, ops.minimum(edges, half_way), edges)
        width = ends[..., 1:, :] - ends[..., :-1, :]
        x = side * (ends[..., :-1, :] + width * nodes)
        r = x if from_a else fixed_shift + x
        of_b = zoom * (r - shift)
        if not from_a:
            # The value without a rounded difference.
            of_b = fixed_zoom * x + (of_b - ops.stop_gradient(of_b))
        log_p = -a.energy(ops.abs(r)) - column(a.log_z)
        log_q = ops.log(zoom) - b.energy(ops.abs(of_b)) - column(b.log_z)
        terms = _weighted_integrand(
            ops.maximum(log_p, _LOG_0),
            ops.maximum(log_q, _LOG_0),
            ops.log(weights * width),
        )
        total = total + ops.sum(terms, axis=(-2, -1))
    return total


def _weighted_integrand(
    log_p: Tensor, log_q: Tensor, log_weight: Tensor
) -> Tensor:
    """The weight times p (exp(d) - 1 - d), d = log q - log p.

    Weight and density are in one exponent: otherwise the gradient would contain
    the weight times d, which far out overflows where p is 0.
    """
    difference = log_q - log_p
    log_q, p = log_q + log_weight, ops.exp(log_p + log_weight)
    is_near = difference < 1.0
    near = p * _excess(ops.where(is_near, difference, 0.0))
    # exp(d) may overflow where q is far above p.
    return ops.where(is_near, near, ops.exp(log_q) - p * (1.0 + difference))


def _kl_symmetric(
    a: tfd.Distribution, b: tfd.Distribution, name: str | None = None
) -> Tensor:
    """KL(a || b), in nats, of the broadcast batch shape, by quadrature.

    The error is below 1e-5 (1 + KL) in float32, and 1e-8 (1 + KL) in float64
    for shapes of 1/4 and more. Infinite where a's tails are too heavy for b.

    In float32 Cauchy's tails (alpha = 0) are followed for 1e17 scales: if b has
    the shape s, a share of 1e17**(s - 1) is left out, 1e-5 at s = 0.7.

    Raises:
        NotImplementedError: for a subclass with a density of its own.
    """
    dtype = keras.backend.standardize_dtype(a.dtype)
    divergence = _kl(_standard(a), _standard(b))
    if isinstance(a, Barron):
        # The energy of b grows as |r|**power, and Cauchy's density falls as
        # 1 / r**2. All other shapes have every moment.
        power = 2.0 if isinstance(b, tfd.Normal) else 1.0
        power = as_tensor(b.alpha) if isinstance(b, Barron) else power
        is_infinite = (as_tensor(a.alpha) == 0.0) & (power >= 1.0)
        divergence = ops.where(is_infinite, math.inf, divergence)
    return ops.cast(divergence, dtype)


_OURS = (HyperbolicSecant, Barron)
_FAMILIES = (*_OURS, tfd.Normal, tfd.Laplace)
for _a, _b in itertools.product(_FAMILIES, repeat=2):
    if _a in _OURS or _b in _OURS:
        tfd.RegisterKL(_a, _b)(_kl_symmetric)


@tfd.RegisterKL(Gibbs, Gibbs)
def _kl_gibbs_gibbs(a: Gibbs, b: Gibbs, name: str | None = None) -> Tensor:
    """KL(a || b), in nats, of the broadcast batch shape, by quadrature.

    The panels are those of a, adapted to a's energy: the error is about 1e-6,
    or, if b's energy has a kink in the middle of a, about 1e-4 for a kink of
    slope 1. Infinite where a has mass outside b's support.
    """
    panels, line = a._panels(), a._line()
    there = panels.weights > 0.0
    t = ops.where(there, panels.nodes, panels.peak)
    r = ops.reshape(line.residual(t), (-1,))
    weights = ops.reshape(panels.weights, (-1,))
    log_p = -energy_at(a.energy, r) - a._log_normalizer(panels)
    a_scale, b_scale = a._tensor("scale"), b._tensor("scale")
    zoom = (a_scale / b_scale)[..., None]
    shift = ((b._tensor("loc") - a._tensor("loc")) / a_scale)[..., None]
    of_b = zoom * (r - shift)
    low, high = b._ends()
    outside = (of_b < low) | (of_b > high)
    of_b_panels = b._panels()
    # The energy need not be defined outside.
    of_b = ops.where(outside, b._line().residual(of_b_panels.peak), of_b)
    log_q = ops.log(zoom) - energy_at(b.energy, of_b)
    log_q = log_q - b._log_normalizer(of_b_panels)
    terms = ops.where(outside, math.inf, log_p - log_q)
    terms = ops.where(weights > 0.0, weights * terms, 0.0)
    divergence = ops.sum(terms, axis=-1) / ops.sum(weights)
    # Where a and b are nearly equal, rounding could make it negative.
    divergence = divergence + ops.stop_gradient(ops.relu(-divergence))
    return ops.cast(divergence, keras.backend.standardize_dtype(a.dtype))
