"""The energy that a user writes, along the support of its Gibbs density.

What is known of exp(-energy(r)) before any integration: the line that it is
defined on, its values there, its tails, and whether it has a finite integral.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfp_vae.substrate import Tensor

__all__ = [
    "LOST",
    "Line",
    "check_normalizable",
    "checked_support",
    "energy_at",
    "log_density_at",
    "log_lost",
    "tails",
]

# How far out an unbounded support is followed, in units of scale: the square of
# a residual does not yet overflow there.
_REACH = {"float32": 1e17, "float64": 1e30}
# The share of the mass that may lie further out.
LOST = 1e-6
# A moment whose integrand falls by less than this power of |r| diverges.
_FLAT = 1e-3


class Line:
    """The support, on a coordinate t in which heavy tails are exponential.

    r = anchor + sinh(t) on an unbounded support, where the anchor is the finite
    end, if there is one; r = t on a bounded one.

    Args:
        support: the least and the greatest residual, or None for all residuals.
        dtype: "float32" or "float64".
    """

    def __init__(self, support: tuple[float, float] | None, dtype: str) -> None:
        low, high = support or (-math.inf, math.inf)
        reach = math.asinh(_REACH[dtype])
        self.dtype = dtype
        self.is_bounded = math.isfinite(low) and math.isfinite(high)
        self.anchor = next(
            (end for end in (low, high) if math.isfinite(end)), 0.0
        )
        if self.is_bounded:
            self.low, self.high = low, high
        else:
            self.low = 0.0 if math.isfinite(low) else -reach
            self.high = 0.0 if math.isfinite(high) else reach
        # Energies in common use have their kinks at the residual 0.
        self.breaks = [self.low, self.high]
        if low < 0.0 < high:
            centre = 0.0 if self.is_bounded else math.asinh(-self.anchor)
            self.breaks.insert(1, centre)

    def open_ends(self) -> np.ndarray:
        """The ends that stand for infinity."""
        ends = [] if self.is_bounded else [self.low, self.high]
        return np.array([t for t in ends if t != 0.0])

    def residual(self, t: Tensor) -> Tensor:
        if self.is_bounded:
            return t
        # Not `ops.sinh` or `ops.arcsinh`: on JAX these compute in float32.
        return self.anchor + 0.5 * (ops.expm1(t) - ops.expm1(-t))

    def coordinate(self, r: Tensor) -> Tensor:
        if self.is_bounded:
            return r
        r = r - self.anchor
        size = ops.where(r < 0.0, -r, r)
        square = size * size
        t = ops.log1p(size + square / (1.0 + ops.sqrt(1.0 + square)))
        return ops.where(r < 0.0, -t, t)

    def log_slope(self, t: Tensor) -> Tensor:
        """Log dr/dt = log cosh(t)."""
        if self.is_bounded:
            return ops.zeros_like(t)
        size = ops.abs(t)
        return size + ops.log1p(ops.exp(-2.0 * size)) - math.log(2.0)


def log_density_at(
    energy: Callable[[Tensor], Tensor], line: Line, t: Tensor
) -> Tensor:
    """The log density in t, unnormalised; -2e30 for none (and for a NaN).

    Args:
        energy: the function of the residual.
        line: the support.
        t: coordinates on it, of any shape.

    Returns:
        The log density of t, of that shape, in nats.
    """
    values = line.log_slope(t) - energy_at(energy, line.residual(t))
    return ops.where(ops.abs(values) < 1e30, values, -2e30)


def energy_at(energy: Callable[[Tensor], Tensor], r: Tensor) -> Tensor:
    """The energy, in the dtype of r, after a check that it has the shape of r.

    Args:
        energy: the function of the residual.
        r: residuals, of any shape.

    Returns:
        Their energies, in nats.

    Raises:
        ValueError: if the energies are of another shape.
    """
    values = ops.cast(ops.convert_to_tensor(energy(r)), r.dtype)
    # In a graph of TensorFlow an unknown rank or size is None.
    if None in (getattr(t.shape, "rank", 0) for t in (values, r)):
        return values
    shape, expected = tuple(values.shape), tuple(r.shape)
    if len(shape) != len(expected) or any(
        None not in sizes and sizes[0] != sizes[1]
        for sizes in zip(shape, expected, strict=True)
    ):
        raise ValueError(
            "`energy` must work element by element, with no sum or mean in it: "
            "the energies of a tensor of residuals have its shape (write a "
            f"constant as `0.0 * r`). Received: energies of shape {shape} for "
            f"residuals of shape {expected}."
        )
    return values


def tails(
    energy: Callable[[Tensor], Tensor], line: Line, peak: Tensor
) -> tuple[Tensor, Tensor]:
    """The log density at the ends that stand for infinity, and its decay.

    The decay is what the log density loses over the last unit of t: for a tail
    as |r|**-(1 + k) it is k. Where there is no density, no gradient is
    computed: the energy overflows there.

    Args:
        energy: the function of the residual.
        line: the support.
        peak: any t where the energy does not overflow, as a substitute.

    Returns:
        Two tensors `[ends]`, in nats.
    """
    ends = line.open_ends()
    points = ops.convert_to_tensor(
        np.stack([ends, ends - np.sign(ends)]), line.dtype
    )
    values = ops.stop_gradient(log_density_at(energy, line, points))
    there = values > -1e30
    values = ops.where(
        there,
        log_density_at(energy, line, ops.where(there, points, peak)),
        values,
    )
    return values[0], values[1] - values[0]


def log_lost(log_ends: Tensor, decay: Tensor) -> Tensor:
    """The log of the mass of a tail beyond its end, inf if that is infinite.

    Args:
        log_ends: the log density at the ends, in t.
        decay: what it loses over the last unit of t, of the same shape.

    Returns:
        The logs, of that shape.
    """
    falls = decay > _FLAT
    lost = log_ends - ops.log(ops.where(falls, decay, 1.0))
    return ops.where(
        log_ends < -1e29, -math.inf, ops.where(falls, lost, math.inf)
    )


def check_normalizable(
    energy: Callable[[Tensor], Tensor],
    support: tuple[float, float] | None,
    dtype: str,
) -> None:
    """Refuses an energy without a finite integral, unless it is being traced.

    Args:
        energy: the function of the residual.
        support: what `checked_support` returned.
        dtype: "float32" or "float64".

    Raises:
        ValueError: if exp(-energy) has no finite integral, or the energy is
            finite nowhere or does not work element by element.
    """
    line = Line(support, dtype)
    # Not at an end or at 0, where an energy may be infinite.
    t = np.linspace(line.low, line.high, 4002)[1:-1]
    spacing = t[1] - t[0]
    t = ops.convert_to_tensor(t, dtype)
    values = log_density_at(energy, line, t)
    try:
        values = ops.convert_to_numpy(values).astype(np.float64)
    except (AttributeError, NotImplementedError, TypeError):
        # The errors by which the backends say that it is being compiled.
        return
    r = ops.convert_to_numpy(line.residual(t))
    top = values.max()
    if top < -1e30:
        raise ValueError(
            "`energy` must be finite somewhere on the support: an energy that "
            "is not defined everywhere, such as a logarithm, needs a support "
            "of its own, `support=(0.0, math.inf)`. Received: "
            f"support={support}, an energy that is infinite or NaN at all of "
            f"{len(r)} residuals from {r[0]:.3g} to {r[-1]:.3g}."
        )
    if line.is_bounded:
        return
    log_total = top + math.log(np.exp(values - top).sum() * spacing)
    lost = log_lost(*tails(energy, line, t[int(values.argmax())]))
    if ops.convert_to_numpy(lost).max() < log_total + math.log(LOST):
        return
    ends = line.residual(ops.convert_to_tensor(line.open_ends(), dtype))
    energies = ops.convert_to_numpy(energy_at(energy, ends))
    raise ValueError(
        "exp(-energy(r)) must have a finite integral: where the support is "
        "unbounded the energy must grow faster than log|r|, by so much that "
        f"all except {LOST:g} of the mass lies within |r| < {_REACH[dtype]:g} "
        "(1.4 log|r| is enough). An energy that levels off, such as Tukey's "
        "biweight, has a density on a bounded support only: give one, "
        "`support=(low, high)`, in units of `scale` about `loc`. Received: "
        f"support={support}, an energy of "
        + " and ".join(
            f"{e:.6g} at r = {x:.3g}"
            for e, x in zip(energies, ops.convert_to_numpy(ends), strict=True)
        )
        + "."
    )


def checked_support(support: Any) -> tuple[float, float] | None:
    """A pair of floats, or None for the whole line.

    Args:
        support: what the user gave.

    Returns:
        The least and the greatest residual; either may be infinite, not both.

    Raises:
        ValueError: if it is not a pair of numbers in ascending order.
    """
    if support is None:
        return None
    try:
        low, high = (float(end) for end in support)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise ValueError(
            "`support` must be a pair of numbers in ascending order, in units "
            "of `scale` about `loc`, such as (0.0, math.inf), or None for the "
            f"whole line. Received: support={support!r}."
        )
    return None if math.isinf(low) and math.isinf(high) else (low, high)
