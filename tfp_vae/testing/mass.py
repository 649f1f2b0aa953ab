"""Integrals over a scalar density, in numpy and from its `log_prob` alone.

Nothing else of the distribution is believed, so that whatever it claims can be
held against them. Its own draws only say where to look first.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "Array",
    "Mass",
    "UnknownMassError",
    "continuous_mass",
    "discrete_mass",
]

#: Values of numpy, float64 unless they say another dtype.
Array: TypeAlias = np.ndarray

# Panels of the first grid, nodes on each, and how it is refined.
_PANELS = 512
_NODES = 8
_ROUNDS = 7
_SPLIT = 32
# How far the coordinate reaches: e**40 units to either side.
_REACH = 40.0
# Roundings of the type within which an end of the support is not looked at:
# log_prob makes some of its own.
_NEAR = 64
# The share of the mass that a singular end of the support may hide.
_HIDDEN = 1e-5
# Outcomes of a discrete distribution without an upper end.
_OUTCOMES = 4096

_X, _W = np.polynomial.legendre.leggauss(_NODES)
# From values at the nodes to the last two Legendre coefficients.
_ROUGH = (_W[:, None] * np.polynomial.legendre.legvander(_X, _NODES - 1))[
    :, -2:
] * (np.arange(_NODES)[-2:] + 0.5)


class UnknownMassError(Exception):
    """Too much of the mass is out of reach, in a tail or at an end."""


class Mass(NamedTuple):
    """A density, or a probability mass function, at the nodes of a rule.

    Attributes:
        x: `[n, *batch]`, ascending.
        weights: `[n, *batch]`, of the rule.
        log_prob: `[n, *batch]`.
        edges: `[m, *batch]`, where panels end; the outcomes if discrete.
        below: `[m, *batch]`, the mass up to and including each edge.
    """

    x: Array
    weights: Array
    log_prob: Array
    edges: Array
    below: Array

    def total(self) -> Array:
        """The whole mass, `batch`."""
        return np.sum(self.weights * np.exp(self.log_prob), axis=0)

    def mean_of(self, values: Array) -> Array:
        """The mean of `[n, *batch]` values, NaN where its tails matter.

        An integral that the outermost nodes still add to does not converge, or
        not to within reach.
        """
        probability = self.weights * np.exp(self.log_prob)
        terms = np.where(probability > 0, values * probability, 0.0)
        size = np.abs(terms).sum(axis=0)
        # Of a few outcomes there are none.
        outer = len(terms) // 16
        ends = np.abs(terms)
        tails = ends[:outer].sum(axis=0) + ends[len(terms) - outer :].sum(
            axis=0
        )
        return np.where(
            tails <= 1e-5 * size, terms.sum(axis=0) / self.total(), np.nan
        )

    def cdf(self, values: Array) -> Array:
        """The mass below values, `[k, *batch]`; linear between the edges."""
        shape = self.edges.shape[1:]
        values = np.broadcast_to(values, (len(values), *shape))
        found = np.empty(values.shape)
        share = self.below / self.below[-1:]
        for i in np.ndindex(*shape):
            at = (slice(None), *i)
            found[at] = np.interp(values[at], self.edges[at], share[at])
        return found

    def quantile(self, p: Array) -> Array:
        """Points with about the mass p below, `[k, *batch]`."""
        shape = self.edges.shape[1:]
        found = np.empty((len(p), *shape))
        share = self.below / self.below[-1:]
        for i in np.ndindex(*shape):
            at = (slice(None), *i)
            found[at] = np.interp(p, share[at], self.edges[at])
        return found


def discrete_mass(
    log_prob: Callable[[Array], Array], low: float, high: float
) -> Mass:
    """Of a distribution over integers.

    Args:
        log_prob: from outcomes `[n, 1, ...]` to `[n, *batch]`.
        low: the least outcome.
        high: the greatest, or infinity.

    Returns:
        The mass.
    """
    x = np.arange(low, min(high, low + _OUTCOMES - 1) + 1)
    found = log_prob(x)
    x = np.broadcast_to(
        x.reshape(-1, *[1] * (found.ndim - 1)), found.shape
    ).astype(float)
    return Mass(
        x, np.ones_like(found), found, x, np.cumsum(np.exp(found), axis=0)
    )


class _Coordinate(NamedTuple):
    """x as a function of t in which tails of any weight are exponential."""

    low: Array
    high: Array
    anchor: Array
    unit: Array

    def _choose(
        self, whole: Array, above: Array, below: Array, between: Array
    ) -> Array:
        """By which ends of the support are finite."""
        no_low, no_high = np.isinf(self.low), np.isinf(self.high)
        return np.where(
            no_low & no_high,
            whole,
            np.where(no_high, above, np.where(no_low, below, between)),
        )

    def x(self, t: Array) -> Array:
        width = self.high - self.low
        # From the end that is near, or nothing would be left of 1 - e.
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
    """Of a scalar density.

    Gauss-Legendre on panels of a coordinate that is logarithmic towards the
    ends of the support, split where the density is rough.

    Args:
        log_prob: from points `[n, *batch]` to `[n, *batch]`.
        low: the lower end of the support, `batch`.
        high: its upper end, `batch`.
        draws: `[k, *batch]`, from which the coordinate takes place and unit.
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

    def density(left: Array, width: Array) -> tuple[Array, Array, Array]:
        """x, log p and weight at the nodes, each `[nodes, panels, *batch]`."""
        nodes = 0.5 * (_X + 1.0).reshape(-1, *[1] * left.ndim)
        t = left + width * nodes
        x = line.x(t).astype(dtype).astype(float)
        rule = 0.5 * _W.reshape(-1, *[1] * left.ndim) * width * line.slope(t)
        inside = (x > low + near(low)) & (x < high - near(high))
        flat = np.where(inside, x, line.x(np.zeros_like(low)))
        values = log_prob(flat.reshape(-1, *low.shape)).reshape(x.shape)
        return x, np.where(inside, values, -np.inf), np.where(inside, rule, 0)

    edges = np.linspace(-_REACH, _REACH, _PANELS + 1)
    shape = (-1, *[1] * low.ndim)
    left = np.broadcast_to(edges[:-1].reshape(shape), (_PANELS, *low.shape))
    width = np.full(left.shape, edges[1] - edges[0])
    parts = (left, width, *density(left, width))
    _check_ends(*parts[3:])
    for _ in range(_ROUNDS):
        parts = _refined(parts, density)
    return _assembled(line, *parts)


def _refined(
    parts: tuple[Array, ...],
    density: Callable[[Array, Array], tuple[Array, Array, Array]],
) -> tuple[Array, ...]:
    """Halves the panels on which the density is least like a polynomial."""
    left, width, _, values, rule = parts
    terms = np.nan_to_num(rule * np.exp(values), posinf=0.0)
    rough = np.abs(np.tensordot((_ROUGH / _W[:, None]).T, terms, 1)).sum(0)
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


def _check_ends(values: Array, rule: Array) -> None:
    """Refuses a density with mass where the nodes do not come.

    That is beyond the outermost panels, and within rounding of an end of the
    support: what the geometric series has left that the last two panels begin.
    """
    panels = (rule * np.exp(values)).sum(axis=0)
    whole = (rule > 0).all(axis=0)
    for i in np.ndindex(*panels.shape[1:]):
        at = (slice(None), *i)
        inside = panels[at][whole[at]]
        hidden = 0.0
        for last, before in (inside[:2], inside[:-3:-1]):
            ratio = last / before if last > 0 else 0.0
            hidden += last * ratio / (1.0 - ratio) if ratio < 1 else np.inf
        if not hidden <= _HIDDEN * inside.sum():
            raise UnknownMassError


def _assembled(
    line: _Coordinate,
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
    panel = np.sum(rule * np.exp(values), axis=0)

    def flat(array: Array) -> Array:
        return np.moveaxis(array, 0, 1).reshape(-1, *line.low.shape)

    edges = line.x(np.concatenate([left, left[-1:] + width[-1:]]))
    below = np.concatenate([0.0 * panel[:1], np.cumsum(panel, axis=0)])
    return Mass(flat(x), flat(rule), flat(values), edges, below)
