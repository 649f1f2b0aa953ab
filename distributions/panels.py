"""A density on adaptive panels: its integral, its cdf and its quantiles."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.quadrature import gauss_legendre
from tfp_vae.substrate import Tensor

__all__ = ["Panels", "adapt"]

# Panels on each segment, nodes on each panel, and how often the edges move.
_PANELS = 64
_NODES = 12
_ROUNDS = 6
# In nats below the peak: where the density counts as zero.
_CUT = {"float32": 86.0, "float64": 150.0}
# The share of the mass that counts as a quadrature error.
_ERROR = {"float32": 1e-8, "float64": 1e-10}


@cache
def _ends() -> np.ndarray:
    """From values at the nodes to those at -1 and at 1, `[n, 2]`."""
    basis = np.polynomial.legendre.legvander(np.array([-1.0, 1.0]), _NODES - 1)
    return _matrices()[0] @ basis.T


@cache
def _matrices() -> tuple[np.ndarray, np.ndarray]:
    """From values at the nodes to Legendre coefficients, `[n, n]`.

    And from the coefficients to the powers, `[n, n + 1]`, of the integral from
    -1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    degree = np.arange(_NODES)
    basis = np.polynomial.legendre.legvander(nodes, _NODES - 1)
    to_series = weights[:, None] * basis * (degree + 0.5)
    to_powers = np.zeros((_NODES, _NODES + 1))
    for k in degree:
        integral = np.polynomial.legendre.legint(np.eye(_NODES)[k], lbnd=-1)
        powers = np.polynomial.legendre.leg2poly(integral)
        to_powers[k, : len(powers)] = powers
    return to_series, to_powers


def _product(values: Tensor, matrix: Tensor) -> Tensor:
    """A matrix product; `ops.matmul` may keep three digits on a GPU (TF32)."""
    return ops.sum(values[..., None] * matrix, axis=-2)


def adapt(
    log_density: Callable[[Tensor], Tensor], breaks: list[float], dtype: str
) -> Tensor:
    """The edges of panels on which a density is close to a polynomial.

    Starts from equal panels between the breaks. In each round the edges move so
    that all panels have the same share of a monitor, which asks for panels in
    three places: where there is mass, where the density spans many powers of e,
    and, by a fourth root, where it is rough. Roughness is measured by the last
    Legendre coefficients, and by how far the polynomials of two neighbours are
    apart at the edge between them: a wall may lie between the edge and the
    nodes. Each round locates a kink at an unknown place some 30 times more
    closely.

    Args:
        log_density: from a tensor of any shape to one of that shape, finite or
            less than -1e30 where there is no density.
        breaks: the ends of the range, and the points inside that must be edges.
        dtype: "float32" or "float64".

    Returns:
        The edges, `[segments * panels + 1]`, ascending. No gradient flows.
    """
    nodes, weights = (
        ops.convert_to_tensor(a, dtype) for a in gauss_legendre(_NODES)
    )
    to_series = ops.convert_to_tensor(_matrices()[0][:, -2:], dtype)
    to_ends = ops.convert_to_tensor(_ends(), dtype)
    share = np.arange(1, _PANELS) / _PANELS
    edges = np.stack(
        [np.linspace(a, b, _PANELS + 1) for a, b in pairwise(breaks)]
    )

    def move(_: Any, edges: Tensor) -> Tensor:
        low, width = edges[:, :-1], edges[:, 1:] - edges[:, :-1]
        values = ops.stop_gradient(
            log_density(low[..., None] + width[..., None] * nodes)
        )
        # For each segment by itself: one that seems to have no mass now may
        # have a wall or a peak that no node has found yet.
        top = ops.max(values, axis=(1, 2), keepdims=True)
        density = ops.exp(values - top)
        total = ops.sum(
            width * ops.sum(density * weights, axis=-1), axis=-1, keepdims=True
        )
        roughness = ops.sum(ops.abs(_product(density, to_series)), axis=-1)
        roughness += _jumps(_product(density, to_ends), top[..., 0])
        height = ops.maximum(values - top, -_CUT[dtype])
        highest = ops.max(height, axis=-1)
        monitor = (
            0.03
            + 0.27 * ops.cast(highest > -_CUT[dtype], dtype)
            + 0.25 * (highest - ops.min(height, axis=-1))
            + ops.sqrt(ops.sqrt(width * roughness / (_ERROR[dtype] * total)))
        )
        # A panel that almost missed a wall learns of it from the next panel.
        around = ops.concatenate(
            [monitor[:, :1], monitor, monitor[:, -1:]], axis=-1
        )
        monitor = 0.5 * monitor + 0.25 * (around[:, :-2] + around[:, 2:])
        # The cumulated monitor is piecewise linear, so its inverse at `share`
        # of the whole is a sum of clipped lines.
        before = ops.cumsum(monitor, axis=-1) - monitor
        aim = ops.sum(monitor, axis=-1, keepdims=True) * ops.cast(share, dtype)
        part = (aim[:, :, None] - before[:, None, :]) / monitor[:, None, :]
        inner = low[:, :1] + ops.sum(
            width[:, None, :] * ops.clip(part, 0.0, 1.0), axis=-1
        )
        inner = ops.clip(ops.sort(inner, axis=-1), edges[:, :1], edges[:, -1:])
        return ops.concatenate([edges[:, :1], inner, edges[:, -1:]], axis=-1)

    edges = ops.fori_loop(0, _ROUNDS, move, ops.convert_to_tensor(edges, dtype))
    return ops.stop_gradient(
        ops.concatenate([ops.reshape(edges[:, :-1], (-1,)), edges[-1, -1:]])
    )


def _jumps(ends: Tensor, top: Tensor) -> Tensor:
    """The jumps of the density at the two edges of a panel, added.

    Args:
        ends: the density at the two edges by the panel's polynomial, in units
            of exp(top), `[segments, panels, 2]`.
        top: `[segments, 1]`.

    Returns:
        `[segments, panels]`; between segments, in the larger of the two units.
    """
    shape = ops.shape(ends)[:2]
    top = ops.reshape(ops.broadcast_to(top, shape), (-1,))
    start, stop = (ops.reshape(ends[..., i], (-1,)) for i in range(2))
    unit = ops.maximum(top[:-1], top[1:])
    leap = ops.abs(
        stop[:-1] * ops.exp(top[:-1] - unit)
        - start[1:] * ops.exp(top[1:] - unit)
    )
    outermost = ops.zeros_like(leap[:1])
    leap = ops.concatenate([outermost, leap, outermost])
    return ops.reshape(leap[:-1] + leap[1:], shape)


class Panels(NamedTuple):
    """A density on panels: its integral by Gauss-Legendre, whole and in parts.

    On each panel the density is the polynomial through its values at the nodes,
    so its mass up to any point is known. All masses are in units of exp(top).

    Attributes:
        edges: `[p + 1]`, ascending.
        nodes: `[p, n]`.
        weights: `[p, n]`, those of the nodes times the density: masses.
        powers: `[p, n + 1]`, the mass from the left end of a panel to the point
            x of (-1, 1) on it, in powers of x.
        lower: `[p + 1]`, the mass to the left of each edge.
        upper: `[p + 1]`, the mass to the right.
        peak: the node where the density is greatest.
        top: the log of the unit.
    """

    edges: Tensor
    nodes: Tensor
    weights: Tensor
    powers: Tensor
    lower: Tensor
    upper: Tensor
    peak: Tensor
    top: Tensor

    @classmethod
    def of(
        cls, log_density: Callable[[Tensor], Tensor], edges: Tensor
    ) -> "Panels":
        """Differentiable in everything that `log_density` depends on.

        Where the density counts as zero, only the value of `log_density` is
        used: infinities there stay out of the gradients.
        """
        dtype = keras.backend.standardize_dtype(edges.dtype)
        nodes, weights = (
            ops.convert_to_tensor(a, dtype) for a in gauss_legendre(_NODES)
        )
        to_series, to_powers = (
            ops.convert_to_tensor(a, dtype) for a in _matrices()
        )
        width = edges[1:] - edges[:-1]
        nodes = edges[:-1, None] + width[:, None] * nodes
        values = ops.stop_gradient(log_density(nodes))
        top = ops.max(values)
        there = values > top - _CUT[dtype]
        peak = ops.reshape(nodes, (-1,))[ops.argmax(ops.reshape(values, (-1,)))]
        values = log_density(ops.where(there, nodes, peak))
        density = ops.where(there, ops.exp(values - top), 0.0)
        # In two steps: on a smooth panel the coefficients fall off, so that the
        # large numbers in `to_powers` are multiplied by small ones.
        powers = _product(_product(density, to_series), to_powers)
        mass = width * ops.sum(density * weights, axis=-1)
        zero = ops.zeros_like(mass[:1])
        upper = ops.flip(ops.cumsum(ops.flip(mass, axis=0), axis=0), axis=0)
        return cls(
            edges=edges,
            nodes=nodes,
            weights=width[:, None] * weights * density,
            powers=0.5 * width[:, None] * powers,
            lower=ops.concatenate([zero, ops.cumsum(mass, axis=0)]),
            upper=ops.concatenate([upper, zero]),
            peak=peak,
            top=top,
        )

    def log_total(self) -> Tensor:
        """The log of the integral."""
        return self.top + ops.log(ops.sum(self.weights))

    def mean_of(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """The mean of a function of t, which is called where there is mass."""
        values = function(ops.where(self.weights > 0.0, self.nodes, self.peak))
        return ops.sum(self.weights * values) / ops.sum(self.weights)

    def masses(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The masses left and right of t, a vector."""
        index = ops.searchsorted(self.edges, ops.stop_gradient(t), side="right")
        index = ops.clip(index - 1, 0, ops.shape(self.powers)[0] - 1)
        low = ops.take(self.edges, index)
        width = ops.take(self.edges, index + 1) - low
        width = ops.where(width > 0.0, width, 1.0)
        # Not clipped: at an edge that would halve the derivative.
        x = 2.0 * (t - low) / width - 1.0
        powers = ops.take(self.powers, index, axis=0)
        within, _ = _mass_within(powers, x)
        lower = ops.take(self.lower, index) + within
        above = ops.take(self.upper, index + 1)
        upper = above + (ops.sum(powers, axis=-1) - within)
        return ops.maximum(lower, 0.0), ops.maximum(upper, 0.0)

    def quantile(
        self, mass: Tensor, from_right: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The t with the given mass to its left, or right: two vectors.

        By Newton's method within a bracket, on the panel that contains t.

        Returns:
            t, through which no gradient flows, and a correction of value zero,
            whose first and second derivatives are those of t.
        """
        aim = ops.stop_gradient(mass)
        lower, upper = ops.stop_gradient(self.lower), ops.flip(self.upper)
        last = ops.shape(self.powers)[0] - 1
        index = ops.where(
            from_right,
            last + 1 - ops.searchsorted(ops.stop_gradient(upper), aim),
            ops.searchsorted(lower, aim) - 1,
        )
        index = ops.clip(index, 0, last)
        # The mass from the left end of the panel, in both cases.
        powers = ops.take(self.powers, index, axis=0)
        above = ops.take(self.upper, index + 1) + ops.sum(powers, axis=-1)
        goal = ops.where(
            from_right, above - mass, mass - ops.take(self.lower, index)
        )
        zeros = ops.zeros_like(aim)
        fixed = ops.stop_gradient(powers), ops.stop_gradient(goal)
        x, *_ = ops.fori_loop(
            0, 24, _bracketed_newton, (zeros, zeros - 1.0, zeros + 1.0, *fixed)
        )
        low = ops.take(self.edges, index)
        half = 0.5 * (ops.take(self.edges, index + 1) - low)
        within, slope = _mass_within(powers, x)
        slope = ops.where(slope > 0.0, slope, 1.0)
        error = goal - within
        step = (error - ops.stop_gradient(error)) / slope
        # The inverse function to second order, for second derivatives.
        bend = ops.stop_gradient(_bend_within(powers, x) / slope)
        return low + half * (x + 1.0), half * (step - 0.5 * bend * step * step)


def _mass_within(powers: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The mass of a panel left of x in (-1, 1), and its derivative in x."""
    within, slope = powers[..., -1], ops.zeros_like(x)
    for k in range(_NODES - 1, -1, -1):
        slope = within + x * slope
        within = powers[..., k] + x * within
    return within, slope


def _bend_within(powers: Tensor, x: Tensor) -> Tensor:
    """The second derivative in x of the mass of a panel left of x."""
    bend = ops.zeros_like(x)
    for k in range(_NODES, 1, -1):
        bend = k * (k - 1) * powers[..., k] + x * bend
    return bend


def _bracketed_newton(_: Any, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A step to where `_mass_within` is `goal`.

    A function of the module, so that JAX need not compile it again each time.
    """
    x, left, right, powers, goal = state
    within, slope = _mass_within(powers, x)
    left = ops.where(within < goal, x, left)
    right = ops.where(within < goal, right, x)
    step = x - (within - goal) / ops.where(slope > 0.0, slope, 1.0)
    inside = (step >= left) & (step <= right) & (slope > 0.0)
    x = ops.where(inside, step, 0.5 * (left + right))
    return x, left, right, powers, goal
