"""A likelihood whose scale is the best one for its data."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.substrate import Tensor, tfd

__all__ = ["OptimalScale"]

# The share of the past in the running mean of the scale.
_MOMENTUM = 0.9


class OptimalScale(tfd.Distribution):
    """`Independent` of a location-scale family whose scale the data set.

    `log_prob(x)` takes the maximum-likelihood scale of the residuals x - loc of
    the whole batch, and updates a running mean of it. No gradient flows through
    the scale: at an optimum it would be zero. All other methods are those of
    `distribution`, whose scale is the running mean.

    Args:
        distribution: `tfd.Independent` of a family with `loc` and `scale`.
        optimal_scale: function of residuals, `[..., B, *event]`, to a scalar.
        running_scale: the variable to update.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        optimal_scale: Callable[[Tensor], Tensor],
        running_scale: keras.Variable,
    ) -> None:
        self._distribution = distribution
        self._optimal_scale = optimal_scale
        self._running_scale = running_scale
        super().__init__(
            dtype=distribution.dtype,
            reparameterization_type=distribution.reparameterization_type,
            validate_args=False,
            allow_nan_stats=True,
            parameters={"distribution": distribution},
            name=distribution.name,
        )

    def _log_prob(self, value: Tensor) -> Tensor:
        elements = self._distribution.distribution
        scale = ops.stop_gradient(self._optimal_scale(value - elements.loc))
        self._running_scale.assign(
            _MOMENTUM * self._running_scale + (1.0 - _MOMENTUM) * scale
        )
        at_optimum = self._distribution.copy(
            distribution=elements.copy(scale=scale)
        )
        return at_optimum.log_prob(value)

    def _batch_shape(self) -> Any:
        return self._distribution.batch_shape

    def _batch_shape_tensor(self) -> Tensor:
        return self._distribution.batch_shape_tensor()

    def _event_shape(self) -> Any:
        return self._distribution.event_shape

    def _event_shape_tensor(self) -> Tensor:
        return self._distribution.event_shape_tensor()

    def _sample_n(self, n: Tensor, seed: Any = None, **kwargs: Any) -> Tensor:
        return self._distribution.sample(n, seed=seed, **kwargs)

    def _mean(self) -> Tensor:
        return self._distribution.mean()

    def _mode(self) -> Tensor:
        return self._distribution.mode()

    def _stddev(self) -> Tensor:
        return self._distribution.stddev()

    def _variance(self) -> Tensor:
        return self._distribution.variance()
