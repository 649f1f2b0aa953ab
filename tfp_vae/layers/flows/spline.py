"""Monotone rational-quadratic splines, and their inverses."""

import math

from keras import ops

from tfp_vae.distributions.softplus import softplus
from tfp_vae.substrate import Tensor

__all__ = ["rational_quadratic_spline", "spline_params_size"]

# Floors of the width and the height of a bin, as a share of the whole, and of
# a slope.
_MIN_BIN = 1e-3
_MIN_SLOPE = 1e-3

# softplus(0 + this) + _MIN_SLOPE = 1
_RAW_SLOPE_OF_ONE = math.log(math.expm1(1.0 - _MIN_SLOPE))


def spline_params_size(num_bins: int) -> int:
    """Parameters of one spline: widths, heights and the inner slopes."""
    return 3 * num_bins - 1


def rational_quadratic_spline(
    x: Tensor, raw: Tensor, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """A spline through K bins on [-bound, bound], the identity outside.

    ```none
    in a bin from (x0, y0) of width w and height h, with s = h / w, slopes d0
    and d1 at its ends, and t = (x - x0) / w:

    y     = y0 + h (s t**2 + d0 t (1 - t)) / (s + (d1 + d0 - 2 s) t (1 - t))
    dy/dx = s**2 (d1 t**2 + 2 s t (1 - t) + d0 (1 - t)**2)
            / (s + (d1 + d0 - 2 s) t (1 - t))**2
    ```

    Args:
        x: `[...]`.
        raw: `[..., 3 K - 1]`, any numbers: K for the widths, K for the heights,
            K - 1 for the inner slopes. All 0 give the identity.
        bound: where the spline ends; its slope there is 1.
        inverse: whether x is given for y.

    Returns:
        y, or for the inverse x, and the logarithm of its derivative, `[...]`.

    Reference:
        Durkan, Bekasov, Murray, Papamakarios. Neural spline flows. NeurIPS
        2019. https://arxiv.org/abs/1906.04032
    """
    num_bins = (raw.shape[-1] + 1) // 3
    widths, x_knots = _bins(raw[..., :num_bins], bound)
    heights, y_knots = _bins(raw[..., num_bins : 2 * num_bins], bound)
    slopes = _MIN_SLOPE + softplus(raw[..., 2 * num_bins :] + _RAW_SLOPE_OF_ONE)
    ends = ops.ones_like(widths[..., :1])
    slopes = ops.concatenate([ends, slopes, ends], axis=-1)

    inside = ops.abs(x) < bound
    # Outside, a number that has a finite gradient.
    within = ops.where(inside, x, ops.zeros_like(x))
    bins = _is_in_bin(within, y_knots if inverse else x_knots)

    def chosen(values: Tensor) -> Tensor:
        zeros = ops.zeros_like(values)
        return ops.sum(ops.where(bins, values, zeros), axis=-1)

    w, h = chosen(widths), chosen(heights)
    x0, y0 = chosen(x_knots), chosen(y_knots)
    d0, d1 = chosen(slopes[..., :-1]), chosen(slopes[..., 1:])
    s = h / w
    bend = d1 + d0 - 2.0 * s
    t = _place(within - y0, h, s, d0, bend) if inverse else (within - x0) / w
    t = ops.clip(t, 0.0, 1.0)
    mixed = t * (1.0 - t)
    denominator = s + bend * mixed
    log_slope = (
        2.0 * ops.log(s)
        + ops.log(d1 * t**2 + 2.0 * s * mixed + d0 * (1.0 - t) ** 2)
        - 2.0 * ops.log(denominator)
    )
    if inverse:
        value, log_slope = x0 + w * t, -log_slope
    else:
        value = y0 + h * (s * t**2 + d0 * mixed) / denominator
    return (
        ops.where(inside, value, x),
        ops.where(inside, log_slope, ops.zeros_like(log_slope)),
    )


def _bins(raw: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Sizes of the bins and where each begins, `[..., K]`."""
    num_bins = raw.shape[-1]
    shares = _MIN_BIN + (1.0 - _MIN_BIN * num_bins) * ops.softmax(raw, axis=-1)
    sizes = 2.0 * bound * shares
    starts = ops.cumsum(sizes[..., :-1], axis=-1) - bound
    first = ops.full_like(sizes[..., :1], -bound)
    return sizes, ops.concatenate([first, starts], axis=-1)


def _is_in_bin(x: Tensor, starts: Tensor) -> Tensor:
    """Whether x is in each bin, `[..., K]`; true for exactly one."""
    begun = x[..., None] >= starts
    # Rounding must not take x out of the first bin.
    first = ops.ones_like(begun[..., :1])
    after = ops.zeros_like(begun[..., :1])
    begun = ops.concatenate([first, begun[..., 1:]], axis=-1)
    ended = ops.concatenate([begun[..., 1:], after], axis=-1)
    return ops.logical_and(begun, ops.logical_not(ended))


def _place(
    rise: Tensor, h: Tensor, s: Tensor, d0: Tensor, bend: Tensor
) -> Tensor:
    """The t in [0, 1] where the spline has risen by `rise`, in a bin."""
    a = h * (s - d0) + rise * bend
    b = h * d0 - rise * bend
    c = -s * rise
    # Without cancellation: b > 0 wherever t is near 0.
    square = ops.maximum(b**2 - 4.0 * a * c, 1e-30)
    return -2.0 * c / (b + ops.sqrt(square))
