"""Renyi's variational bound."""

import numbers
from typing import Any

import keras
from keras import ops

from tfp_vae.objectives.batch import Batch
from tfp_vae.objectives.objective import Objective
from tfp_vae.reduction import mean_over_first
from tfp_vae.substrate import Tensor

__all__ = ["RenyiBound"]


@keras.saving.register_keras_serializable("tfp_vae")
class RenyiBound(Objective):
    """The variational Renyi bound, from mode seeking to mass covering.

    ```none
    w_s       = p(x|z_s) p(z_s) / q(z_s|x),     z_s ~ q(z|x),  s = 1..S
    objective = log(1/S sum_s w_s**(1 - alpha)) / (1 - alpha)
    ```

    alpha = 1 (the limit) is the ELBO, alpha = 0 is `IWAE`, alpha -> -inf the
    largest log w_s (VR-max), alpha -> inf the smallest. For alpha in (0, 1) and
    S -> inf it lies between the ELBO and log p(x).

    Args:
        alpha: the order, any finite number.
        num_samples: S.
        kl: how the reported `kl` is computed: see `Objective`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        Those of `IWAE`.

    Returns:
        `ObjectiveTerms`: the `log_likelihood` and `kl` of the ELBO, and the
        bound as `objective`, each `[B]`, nats per example.

    Raises:
        TypeError, ValueError: see `Objective`.

    Reference:
        Li, Turner. Renyi divergence variational inference. NeurIPS 2016.
        https://arxiv.org/abs/1602.02311
    """

    def __init__(
        self,
        alpha: float,
        num_samples: int = 5,
        kl: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples, kl, **kwargs)
        if not (
            isinstance(alpha, numbers.Real) and abs(float(alpha)) < float("inf")
        ):
            raise ValueError(
                "alpha is the order of a Renyi divergence, a finite number. "
                f"Received: alpha={alpha!r}."
            )
        self.alpha: float = float(alpha)

    def combine(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return _power_mean(batch.log_weights(), 1.0 - self.alpha), {}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


def _power_mean(log_weights: Tensor, power: float) -> Tensor:
    """log(mean(w**power)) / power over the first axis; accurate near 0."""
    center = mean_over_first(log_weights)
    if power == 0:
        return center
    # With a weight of zero the mean is -inf; any centre works.
    largest = ops.max(log_weights, axis=0)
    center = ops.where(ops.isfinite(center), center, largest)
    scaled = power * (log_weights - center)
    # exp of small numbers rounds to 1, which expm1 avoids; exp of large ones
    # overflows.
    small = ops.max(ops.abs(scaled), axis=0) < 1
    within = ops.where(small, scaled, 0.0)
    near = ops.log1p(mean_over_first(ops.expm1(within)))
    size = ops.cast(ops.shape(scaled)[0], scaled.dtype)
    far = ops.logsumexp(ops.where(small, 0.0, scaled), axis=0) - ops.log(size)
    return center + ops.where(small, near, far) / power
