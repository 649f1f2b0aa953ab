"""The maximum-likelihood scale of residuals, for any symmetric family."""

import math
from collections.abc import Callable

import keras
from keras import ops

from tfp_vae.reduction import mean
from tfp_vae.substrate import Tensor

__all__ = ["maximum_likelihood_scale"]

# Newton's method stops at a step of this size in log scale: the next step would
# be about its square.
_LAST_STEP = {"float64": 1e-7}
_LAST_STEP_OTHERWISE = 1e-5
# More steps than bisection needs from the smallest scale to the largest.
_MAX_STEPS = 60


def maximum_likelihood_scale(
    residual: Tensor,
    score: Callable[[Tensor], tuple[Tensor, Tensor]],
    floor: float,
) -> Tensor:
    """The scale s that maximises the likelihood of residuals.

    ```none
    f(r / s) / s,    psi = -(log f)',    w(u) = u psi(u)
    mean(w(|r| / s)) = 1
    ```

    w must rise from 0. The equation is solved for log s by Newton's method on
    its logarithm. With heavy tails w saturates, and its slope is useless: the
    root is kept between bounds, and bisection replaces a step that would leave
    them. Where w never reaches 1, as in a Cauchy with more than half of
    the residuals zero, the likelihood has no maximum and the result is the
    floor.

    Args:
        residual: data minus location, any shape, finite.
        score: function of u >= 0 to `(w(u), u w'(u))`.
        floor: the least scale.

    Returns:
        A scalar in the units of the residuals, without a gradient.
    """
    # A loop has no backward pass on JAX.
    size = ops.abs(ops.stop_gradient(residual))
    last_step = _LAST_STEP.get(
        keras.backend.standardize_dtype(size.dtype), _LAST_STEP_OTHERWISE
    )
    low = ops.cast(math.log(floor), size.dtype)
    # w(1 / 2) < 1 in every family here, so a scale of twice the largest
    # residual is too large.
    high = ops.log(2.0 * ops.max(size) + floor)

    def unfinished(
        log_scale: Tensor, step: Tensor, low: Tensor, high: Tensor
    ) -> Tensor:
        return ops.abs(step) > last_step

    def improved(
        log_scale: Tensor, step: Tensor, low: Tensor, high: Tensor
    ) -> tuple[Tensor, ...]:
        w, slope = score(size * ops.exp(-log_scale))
        w, slope = mean(w), mean(slope)
        too_small = w > 1.0
        low = ops.where(too_small, log_scale, low)
        high = ops.where(too_small, high, log_scale)
        # Where w or its slope vanish or overflow this is infinite or NaN, and
        # so not between the bounds.
        newton = log_scale + ops.log(w) * w / slope
        within = ops.logical_and(newton >= low, newton <= high)
        new = ops.where(within, newton, 0.5 * (low + high))
        return new, new - log_scale, low, high

    log_scale, *_ = ops.while_loop(
        unfinished,
        improved,
        (ops.log(mean(size) + floor), ops.ones_like(high), low, high),
        maximum_iterations=_MAX_STEPS,
    )
    return ops.exp(log_scale)
