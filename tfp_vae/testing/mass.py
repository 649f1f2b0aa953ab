"""Integrals over a scalar density, in numpy and only from its `log_prob`.

No other method of the distribution is trusted, so that all of them can be
compared with these integrals. Its draws only show where to look first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "Array",
    "Mass",
    "UnknownMassError",
    "continuous_mass",
    "first_place",
    "place_of",
]

#: Arrays of numpy, float64 unless they have another dtype.
Array: TypeAlias = np.ndarray

# Panels of the first grid, nodes on each, and how it is refined.
_PANELS = 512
_NODES = 8
_ROUNDS, _MOST_ROUNDS = 7, 40
_SPLIT = 32
# How far the coordinate reaches: e**40 units to either side.
_REACH = 40.0
# Roundings of the dtype within which an end of the support is not examined:
# log_prob has roundings of its own.
_NEAR = 64
# The share of the mass that a singular end of the support may hide silently,
# and the most that it may hide as an error that all checks allow for.
_HIDDEN, _MOST_HIDDEN = 1e-5, 0.01
# The share of the mass that may be uncertain in the panels.
_ROUGH_ENOUGH = 1e-5
# How far out, in units, a NaN counts as a fault of a density.
_FAR = 1e6
# The ratio of two outer panels from which a tail has no finite mass.
_FLAT = 0.999

_X, _W = np.polynomial.legendre.leggauss(_NODES)
# From values at the nodes to the last two Legendre coefficients.
_ROUGH = (_W[:, None] * np.polynomial.legendre.legvander(_X, _NODES - 1))[
    :, -2:
] * (np.arange(_NODES)[-2:] + 0.5)
# From densities at the nodes to the polynomial's mass from -1 to each node.
_TO_MASS = np.stack(
    [
        np.polynomial.legendre.legval(
            _X, np.polynomial.legendre.legint(row, lbnd=-1)
        )
        for row in np.eye(_NODES)
    ],
    axis=-1,
) @ (
    _W
    * np.polynomial.legendre.legvander(_X, _NODES - 1).T
    * (np.arange(_NODES)[:, None] + 0.5)
)


def place_of(number: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """An index of a flat array as an index of a shape, in plain integers."""
    return tuple(int(i) for i in np.unravel_index(number, shape))


def first_place(condition: Array) -> tuple[int, ...]:
    """The index of the first element that is true."""
    return place_of(np.argmax(condition), condition.shape)


class UnknownMassError(Exception):
    """Too much of the mass is out of reach, in a tail or at an end.

    Args:
        reason: for a report.
        is_fault: whether the density is at fault, and not the quadrature.
    """

    def __init__(self, reason: str, is_fault: bool = False) -> None:
        super().__init__(reason)
        self.is_fault = is_fault


class Mass(NamedTuple):
    """A density, or a probability mass function, at the nodes of a rule.

    Attributes:
        x: `[n, *batch]`, ascending.
        weights: `[n, *batch]`, of the rule.
        log_prob: `[n, *batch]`.
        edges: `[m, *batch]`, where panels end; the outcomes if discrete.
        below: `[m, *batch]`, the mass up to and including each edge.
        noise: `batch`, an error of masses: rounding, panels, hidden mass.
        hidden: `batch`, the share next to a singular end, of which only the
            mass is known.
        open_ends: whether there is more mass, below and above, for all or
            `batch`.
        flaw: a place where the density is NaN, or nothing.
    """

    x: Array
    weights: Array
    log_prob: Array
    edges: Array
    below: Array
    noise: Array
    hidden: Array
    open_ends: tuple[Array | bool, Array | bool]
    flaw: str

    @property
    def probability(self) -> Array:
        """The mass of each node, `[n, *batch]`."""
        return self.weights * np.exp(self.log_prob)

    def total(self) -> tuple[Array, Array]:
        """The whole mass and its error, `batch` each."""
        return self.probability.sum(axis=0), self.noise

    def mean_of(self, values: Array) -> tuple[Array, Array]:
        """The mean of `[n, *batch]` values and its error; NaN if out of reach.

        An integral to which the outermost nodes still contribute does not
        converge, or not within reach.
        """
        probability = self.probability
        terms = np.where(probability > 0, values * probability, 0.0)
        ends = np.abs(terms)
        outer = max(1, len(terms) // 16)
        tails = ends[:outer].sum(axis=0) * self.open_ends[0]
        tails = tails + ends[-outer:].sum(axis=0) * self.open_ends[1]
        mean = terms.sum(axis=0) / probability.sum(axis=0)
        known = (tails <= 1e-5 * ends.sum(axis=0)) & (self.hidden == 0)
        return np.where(known, mean, np.nan), self.noise * np.abs(mean)

    def cdf(self, values: Array) -> Array:
        """The mass below values, `[k, *batch]`; linear between the nodes."""
        shape = self.edges.shape[1:]
        values = np.broadcast_to(values, (len(values), *shape))
        found = np.empty(values.shape)
        places, below = self._at_nodes()
        share = below / self.below[-1:]
        for i in np.ndindex(*shape):
            at = (slice(None), *i)
            found[at] = np.interp(values[at], places[at], share[at])
        return found

    def _at_nodes(self) -> tuple[Array, Array]:
        """The edges and the nodes between, and the mass below each."""
        if len(self.x) == len(self.edges):  # outcomes
            return self.edges, self.below
        batch = self.edges.shape[1:]
        dims = (-1, _NODES, *batch)
        density = self.probability.reshape(dims) / _W.reshape(
            _NODES, *[1] * len(batch)
        )
        inner = np.moveaxis(np.tensordot(_TO_MASS, density, (1, 1)), 0, 1)

        def merged(edges: Array, nodes: Array) -> Array:
            # A node is rounded to the dtype; next to an end it moves inside.
            nodes = np.clip(nodes, edges[:-1, None], edges[1:, None])
            rows = np.concatenate([edges[:-1, None], nodes], axis=1)
            return np.concatenate([rows.reshape(-1, *batch), edges[-1:]])

        below = self.below[:-1, None] + inner
        return merged(self.edges, self.x.reshape(dims)), merged(
            self.below, below
        )

    def quantile(self, p: Array) -> Array:
        """Points with about the mass p below, `[k, *batch]`."""
        shape = self.edges.shape[1:]
        found = np.empty((len(p), *shape))
        share = self.below / self.below[-1:]
        for i in np.ndindex(*shape):
            at = (slice(None), *i)
            found[at] = np.interp(p, share[at], self.edges[at])
        return found


class _Coordinate(NamedTuple):
    """x as a function of t in which tails of any weight are exponential."""

    low: Array
    high: Array
    anchor: Array
    unit: Array

    def _choose(
        self, whole: Array, above: Array, below: Array, between: Array
    ) -> Array:
        """The value that belongs to the finite ends of the support."""
        no_low, no_high = np.isinf(self.low), np.isinf(self.high)
        return np.where(
            no_low & no_high,
            whole,
            np.where(no_high, above, np.where(no_low, below, between)),
        )

    def x(self, t: Array) -> Array:
        width = self.high - self.low
        # From the nearer end: otherwise 1 - e would lose all digits.
        from_end = width / (1.0 + np.exp(np.abs(t)))
        return self._choose(
            self.anchor + self.unit * np.sinh(t),
            self.low + self.unit * np.exp(t),
            self.high - self.unit * np.exp(-t),
            np.where(t < 0, self.low + from_end, self.high - from_end),
        )

    def slope(self, t: Array) -> Array:
        e = np.exp(-np.abs(t))
        return self._choose(
            self.unit * np.cosh(t),
            self.unit * np.exp(t),
            self.unit * np.exp(-t),
            (self.high - self.low) * e / np.square(1.0 + e),
        )


def continuous_mass(
    log_prob: Callable[[Array], Array],
    low: Array,
    high: Array,
    draws: Array,
    dtype: str,
) -> Mass:
    """The mass of a scalar density.

    Gauss-Legendre on panels of a coordinate that is logarithmic towards the
    ends of the support, split where the density is rough.

    Args:
        log_prob: from points `[n, *batch]` to `[n, *batch]`.
        low: the lower end of the support, `batch`.
        high: its upper end, `batch`.
        draws: `[k, *batch]`, which give the coordinate its centre and unit.
        dtype: of the distribution: points are rounded to it.

    Returns:
        The mass.

    Raises:
        UnknownMassError: if a tail is so heavy, or an end of the support so
            singular, that mass is out of reach.
    """
    quartiles = np.quantile(draws, [0.25, 0.5, 0.75], axis=0)
    spread = quartiles[2] - quartiles[0]
    one_sided = np.where(
        np.isinf(high), quartiles[1] - low, high - quartiles[1]
    )
    whole = np.isinf(low) & np.isinf(high)
    unit = np.where(whole, spread, one_sided)
    unit = np.where(np.isfinite(unit) & (unit > 0), unit, 1.0)
    anchor = np.where(np.isfinite(quartiles[1]), quartiles[1], 0.0)
    line = _Coordinate(low, high, anchor, unit)

    eps = float(np.finfo(dtype).eps) if dtype != "bfloat16" else 2.0**-7

    def near(end: Array) -> Array:
        return np.where(np.isinf(end), 0.0, _NEAR * eps * np.abs(end))

    inner = low + near(low), high - near(high)

    def density(left: Array, width: Array) -> tuple[Array, Array, Array]:
        """x, log p and weight at the nodes, each `[nodes, panels, *batch]`."""
        nodes = 0.5 * (_X + 1.0).reshape(-1, *[1] * left.ndim)
        t = left + width * nodes
        # Next to an end the density is that of the nearest place inside.
        x = np.clip(line.x(t), *inner).astype(dtype).astype(float)
        rule = 0.5 * _W.reshape(-1, *[1] * left.ndim) * width * line.slope(t)
        inside = np.isfinite(x) & (x > low) & (x < high)
        flat = np.where(inside, x, line.x(np.zeros_like(low)))
        values = log_prob(flat.reshape(-1, *low.shape)).reshape(x.shape)
        return x, np.where(inside, values, -np.inf), rule

    edges = np.linspace(-_REACH, _REACH, _PANELS + 1)
    shape = (-1, *[1] * low.ndim)
    left = np.broadcast_to(edges[:-1].reshape(shape), (_PANELS, *low.shape))
    width = np.full(left.shape, edges[1] - edges[0])
    parts = (left, width, *density(left, width))
    flaw = _nan(parts[2], parts[3], anchor, unit)
    for i in range(_MOST_ROUNDS):
        total = np.nan_to_num(parts[4] * np.exp(parts[3])).sum(axis=(0, 1))
        error = _roughness(*parts[3:]).sum(axis=0)
        if i >= _ROUNDS and (error <= _ROUGH_ENOUGH * total).all():
            break
        parts = _refined(parts, density)
    found = _assembled(line, eps, flaw, *parts)
    hidden = _check_ends(line, inner, found, log_prob)
    share = np.nan_to_num(error / np.maximum(total, 1e-300)) + hidden
    return found._replace(
        noise=np.minimum(found.noise + share, 0.2), hidden=hidden
    )


def _roughness(values: Array, rule: Array) -> Array:
    """The mass of the last two Legendre coefficients of each panel."""
    terms = np.nan_to_num(rule * np.exp(values), posinf=0.0)
    return np.abs(np.tensordot((_ROUGH / _W[:, None]).T, terms, 1)).sum(0)


def _nan(x: Array, values: Array, anchor: Array, unit: Array) -> str:
    """A message about the NaN closest to the mass, or an empty string."""
    distance = np.abs(x - anchor) / unit
    distance = np.where(np.isnan(values), distance, np.inf)
    at = place_of(np.argmin(distance), distance.shape)
    if not distance[at] < _FAR:
        return ""
    return f"log_prob is nan at {x[at]:.4g}, for distribution {at[2:]}"


def _refined(
    parts: tuple[Array, ...],
    density: Callable[[Array, Array], tuple[Array, Array, Array]],
) -> tuple[Array, ...]:
    """Halves the panels on which the density is least like a polynomial."""
    left, width, _, values, rule = parts
    rough = _roughness(values, rule)
    order = np.argsort(-rough, axis=0, kind="stable")
    worst, rest = order[:_SPLIT], order[_SPLIT:]

    def take(array: Array, index: Array) -> Array:
        if array.ndim == index.ndim:
            return np.take_along_axis(array, index, axis=0)
        return np.take_along_axis(array, index[None], axis=1)

    half = 0.5 * take(width, worst)
    start = take(left, worst)
    new_left = np.concatenate([start, start + half])
    new_width = np.concatenate([half, half])
    new = (new_left, new_width, *density(new_left, new_width))
    return tuple(
        np.concatenate([take(old, rest), added], axis=added.ndim - left.ndim)
        for old, added in zip(parts, new, strict=True)
    )


def _check_ends(
    line: _Coordinate,
    inner: tuple[Array, Array],
    mass: Mass,
    log_prob: Callable[[Array], Array],
) -> Array:
    """The share of the mass that the nodes do not reach; refuses a large one.

    Beyond the outermost panels it is the rest of the geometric series that the
    last two panels begin; within rounding of an end of the support it follows
    from the power of the distance with which the density grows.
    """
    panels = np.diff(mass.below, axis=0)
    total = mass.below[-1]
    shares = np.zeros(total.shape)
    for end, place, steps in (
        (line.low, inner[0], panels),
        (line.high, inner[1], panels[::-1]),
    ):
        distance = np.where(np.isinf(end), 0.0, np.abs(place - end))
        last, before = steps[:2]
        ratio = np.where(last > 0, last / np.maximum(before, 1e-300), 0.0)
        hidden = np.where(
            ratio < 1, last * ratio / np.maximum(1.0 - ratio, 1e-9), np.inf
        )
        hidden = np.where(last > 0, hidden, 0.0)
        flat = (hidden > 0) & (ratio >= _FLAT)
        if distance.any() and np.isfinite(end).all():
            inward = np.where(place > end, distance, -distance)
            here, further = log_prob(np.stack([place, place + inward]))
            power = (further - here) / np.log(2.0)
            share = distance * np.exp(here)
            hidden = np.where(
                power < -0.1, share * (1 / np.maximum(power + 1, 1e-9) - 1), 0
            )
            flat = (hidden > 0) & (power <= -0.98)
        if (hidden <= np.where(flat, _HIDDEN, _MOST_HIDDEN) * total).all():
            shares = shares + np.where(
                hidden > _HIDDEN * total, hidden / np.maximum(total, 1e-300), 0
            )
            continue
        at = place_of(np.argmax(hidden / total), hidden.shape)
        where = f"towards {end[at]:.4g}, for distribution {at}"
        if flat[at] or not np.isfinite(total[at]):
            raise UnknownMassError(
                f"the density does not vanish fast enough {where}, to have a "
                "finite integral",
                is_fault=True,
            )
        raise UnknownMassError(
            f"mass is out of reach of quadrature {where}: the density is "
            "infinite there, or its tail heavy"
        )
    return shares


def _assembled(
    line: _Coordinate,
    eps: float,
    flaw: str,
    left: Array,
    width: Array,
    x: Array,
    values: Array,
    rule: Array,
) -> Mass:
    order = np.argsort(left, axis=0)

    def sort(array: Array) -> Array:
        index = order if array.ndim == order.ndim else order[None]
        return np.take_along_axis(array, index, axis=array.ndim - order.ndim)

    left, width, x, values, rule = map(sort, (left, width, x, values, rule))
    values = np.where(np.isnan(values), -np.inf, values)
    panel = np.sum(rule * np.exp(values), axis=0)

    def flat(array: Array) -> Array:
        return np.moveaxis(array, 0, 1).reshape(-1, *line.low.shape)

    edges = line.x(np.concatenate([left, left[-1:] + width[-1:]]))
    below = np.concatenate([0.0 * panel[:1], np.cumsum(panel, axis=0)])
    x, rule, values = flat(x), flat(rule), flat(values)
    # An error of half a rounding of x, times the slope there.
    slope = np.abs(np.diff(values, axis=0) / np.diff(x, axis=0))
    slope = np.nan_to_num(slope, nan=0.0, posinf=0.0)
    error = np.nan_to_num(np.minimum(slope * eps * np.abs(x[1:]), 1.0))
    noise = (error * (rule * np.exp(values))[1:]).sum(axis=0)
    return Mass(
        x,
        rule,
        values,
        edges,
        below,
        np.minimum(noise, 0.2),
        np.zeros_like(noise),
        (True, True),
        flaw,
    )
