"""Which integers are possible, and the sum over them."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from keras import ops

from tfp_vae.testing.mass import Array, Mass, UnknownMassError, first_place

__all__ = ["discrete_mass", "outcome_range", "strictly"]

# A `tfp_vae.testing.case.Case`, which itself imports this module.
Case: TypeAlias = Any

# Steps from a possible outcome within which an end is looked for.
_FAR = 2.0**20
# Outcomes that are summed at first, and at most.
_OUTCOMES = 2**12
_MOST_OUTCOMES = 2**16
_BOTH_WAYS = (slice(None, None, -1), slice(None))
# The share of the mass that may be left beyond the last one.
_HIDDEN = 1e-6


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
    """The least and greatest outcome that `validate_args` lets through.

    Of each distribution of the batch, as the ends may differ. Negative ones
    count only if some are drawn.
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
    """Of a distribution over integers.

    The sum stops where the geometric series that the last terms begin has less
    than 1e-6 left.

    Args:
        case: of a scalar event.

    Returns:
        The mass.

    Raises:
        UnknownMassError: if no sum that is short enough gets so far.
    """
    low, high = case.support
    centre = 0.0 if case.hints is None else float(np.median(case.hints))
    size = _OUTCOMES
    while True:
        start = low.min() if np.isfinite(low).all() else centre - size // 2
        stop = min(float(high.max()), start + size - 1)
        x = np.arange(start, stop + 1)
        x = np.broadcast_to(
            x.reshape(-1, *[1] * len(case.batch_shape)),
            (len(x), *case.batch_shape),
        )
        inside = (x >= low) & (x <= high)
        found = case.log_prob(np.where(inside, x, np.maximum(low, start)))
        flaw = ""
        bad = np.isnan(found) & inside
        if bad.any():
            at = first_place(bad)
            flaw = f"log_prob is nan at {x[at]:g}, for distribution {at[1:]}"
        found = np.where(inside & ~np.isnan(found), found, -np.inf)
        p = np.exp(found)
        is_open = (start > low.min(), stop < high.max())
        hidden = sum(
            (
                _left(p[rows])
                for rows, more in zip(_BOTH_WAYS, is_open, strict=True)
                if more
            ),
            start=np.zeros(case.batch_shape),
        )
        if (hidden <= _HIDDEN * p.sum(axis=0)).all():
            return Mass(
                x,
                np.ones_like(found),
                found,
                x,
                np.cumsum(p, axis=0),
                hidden,
                np.zeros_like(hidden),
                is_open,
                flaw,
            )
        size *= 4
        if size > _MOST_OUTCOMES:
            raise UnknownMassError(
                f"the probabilities of {_MOST_OUTCOMES} outcomes have no sum "
                f"yet: {p[-1]} for the last one, {stop:g}",
                is_fault=bool(np.isinf(hidden).any()),
            )


def _left(p: Array) -> Array:
    """An upper bound of what is beyond the last, if ratios do not rise."""
    last = p[-1]
    ratio = (p[-8:] / np.maximum(p[-9:-1], 1e-300)).max(axis=0)
    left = np.where(
        ratio < 1, last * ratio / np.maximum(1 - ratio, 1e-9), np.inf
    )
    return np.where(last > 0, left, 0.0)
