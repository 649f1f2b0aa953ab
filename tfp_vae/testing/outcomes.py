"""Which integers are possible, and the sum over them."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from keras import ops

from tfp_vae.testing.mass import Array, Mass, UnknownMassError, first_place

__all__ = ["discrete_mass", "outcome_range", "strictly"]

# A `tfp_vae.testing.case.Case`, which itself imports this module.
Case: TypeAlias = Any

# The number of steps from a possible outcome within which an end is searched.
_FAR = 2.0**20
# Outcomes that are summed at first, and at most.
_OUTCOMES = 2**12
_MOST_OUTCOMES = 2**16
_BOTH_WAYS = (slice(None, None, -1), slice(None))
# The share of the mass that may lie beyond the last outcome.
_HIDDEN = 1e-6
# A probability after which no mass is left, whatever the rounded ratios are.
_NOTHING = 1e-30
# The rounding error above which the check is void.
_TOO_ROUGH = 0.2


def strictly(case: Case) -> Callable[[Array], bool]:
    """Whether a value of batch and event shape passes `validate_args`."""
    # Each backend has its own kind of error for an assertion that fails.
    try:
        strict = case.rebuilt(validate_args=True)
    except Exception:
        strict = case.distribution

    def is_allowed(values: Array) -> bool:
        try:
            ops.convert_to_numpy(strict.log_prob(case.point(values)))
        except Exception:
            return False
        return True

    return is_allowed


def outcome_range(case: Case) -> tuple[Array, Array]:
    """The least and greatest outcome that `validate_args` accepts.

    For each distribution of the batch, since the ends may differ. Negative
    outcomes count only if some are drawn.
    """
    is_allowed = strictly(case)
    hints = case.hints
    inside = np.zeros(case.batch_shape) if hints is None else hints[0]
    inside = np.asarray(inside, np.float64)

    def end(at: tuple[int, ...], sign: float) -> float:
        def is_possible(steps: float) -> bool:
            values = inside.copy()
            values[at] += sign * steps
            return is_allowed(values)

        good, bad = 0.0, 1.0
        while is_possible(bad):
            good, bad = bad, 2.0 * bad
            if bad > _FAR:
                return sign * np.inf
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if is_possible(middle) else (good, middle)
        return float(inside[at] + sign * good)

    def ends(sign: float) -> Array:
        if is_allowed(inside + sign * _FAR):
            return np.full(case.batch_shape, sign * np.inf)
        found = np.empty(case.batch_shape)
        for at in np.ndindex(*case.batch_shape):
            found[at] = end(at, sign)
        return found

    low = np.zeros(case.batch_shape)
    refuses_negative = not is_allowed(low - 1.0)
    if not (refuses_negative and is_allowed(low)):
        low = ends(-1.0)
        if hints is None or hints.min() >= 0:
            low = np.maximum(low, 0.0)
    return low, ends(1.0)


def discrete_mass(case: Case) -> Mass:
    """The mass of a distribution over integers.

    The sum starts at the median of the draws, and grows to both sides until the
    rests of the geometric series that the outermost terms begin are below 1e-6.

    Args:
        case: of a scalar event.

    Returns:
        The mass.

    Raises:
        UnknownMassError: if a sum of the largest allowed length does not reach
    this.
    """
    low, high = case.support
    hints = np.zeros((1, *case.batch_shape))
    if case.hints is not None:
        hints = np.clip(case.hints, low, high)
    centre = np.floor(np.median(hints, axis=0))
    column = (-1, *[1] * len(case.batch_shape))
    size = _OUTCOMES
    while True:
        start = np.minimum(centre - size // 2, high - size + 1)
        start = np.maximum(low, start)
        rows = int(min(size, (high - start).max() + 1))
        x = start + np.arange(float(rows)).reshape(column)
        inside = x <= high
        found = case.log_prob(np.where(inside, x, start))
        flaw = ""
        bad = np.isnan(found) & inside
        if bad.any():
            at = first_place(bad)
            flaw = f"log_prob is nan at {x[at]:g}, for distribution {at[1:]}"
        found = np.where(inside & ~np.isnan(found), found, -np.inf)
        p = np.exp(found)
        total = p.sum(axis=0)
        is_open = (start > low, x[-1] < high)
        hidden = sum(
            (
                np.where(more, _left(p[rows]), 0.0)
                for rows, more in zip(_BOTH_WAYS, is_open, strict=True)
                if more.any()
            ),
            start=np.zeros(case.batch_shape),
        )
        # If the first and last probability underflow, draws may lie beyond.
        beyond = ((hints < start) | (hints > x[-1])).any(axis=0)
        lost = (beyond & (total < 0.999)) | (
            (is_open[0] | is_open[1]) & (total == 0.0)
        )
        grows = (is_open[0] | is_open[1]) & (total < 0.5)
        is_known = np.isfinite(hidden) & (hidden <= _HIDDEN * total) & ~lost
        if is_known.all() and not (grows.any() and 4 * size <= _MOST_OUTCOMES):
            return Mass(
                x,
                np.ones_like(found),
                found,
                x,
                np.cumsum(p, axis=0),
                hidden + _rounding(case, x, found),
                np.zeros_like(hidden),
                is_open,
                flaw,
            )
        size *= 4
        if size > _MOST_OUTCOMES:
            raise UnknownMassError(
                f"the probabilities of {_MOST_OUTCOMES} outcomes have no sum "
                f"yet: {p[-1]} for the last one, {x[-1]}",
                is_fault=bool((np.isinf(hidden) & ~beyond).any()),
            )


def _rounding(case: Case, x: Array, log_prob: Array) -> Array:
    """The error of masses from rounded terms of log factorials, x log(x).

    Raises:
        UnknownMassError: if it is too large.
    """
    most = np.maximum(log_prob.max(axis=0), -1e300)
    p = np.exp(log_prob - most)
    terms = np.abs(x) * np.log1p(np.abs(x))
    share = case.eps * (p * terms).sum(axis=0) / np.maximum(p.sum(axis=0), 1e-9)
    if (share > _TOO_ROUGH).any():
        raise UnknownMassError(
            f"the log factorial of outcomes of {x[-1].max():g} is lost in the "
            f"rounding of {case.floating}"
        )
    return share


def _left(p: Array) -> Array:
    """An upper bound of the mass beyond the last one, if ratios do not rise."""
    last = p[-1]
    ratio = (p[-8:] / np.maximum(p[-9:-1], 1e-300)).max(axis=0)
    left = np.where(
        ratio < 1, last * ratio / np.maximum(1 - ratio, 1e-9), np.inf
    )
    return np.where(last > _NOTHING, left, 0.0)
