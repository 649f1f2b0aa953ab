"""Disentangled inferred prior: the moments of the aggregate posterior."""

from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import is_weight
from tfp_vae.distributions import factors
from tfp_vae.latents import refuse_joint
from tfp_vae.objectives.batch import Batch
from tfp_vae.objectives.objective import Objective
from tfp_vae.reduction import mean_over_first
from tfp_vae.substrate import Tensor, tfd

__all__ = ["DIPVAE"]


@keras.saving.register_keras_serializable("tfp_vae")
class DIPVAE(Objective):
    """The ELBO, and a penalty that pulls the latent covariance to the identity.

    ```none
    objective = ELBO - off_diagonal * sum_{i != j} C_ij**2
                     - diagonal * sum_i (C_ii - 1)**2
    C = Cov_x[E_q[z|x]]                           variant "i"
      = Cov_x[E_q[z|x]] + E_x[Cov_q[z|x]]         variant "ii"
    ```

    with the (population) moments of the batch.

    Args:
        variant: `"i"` or `"ii"`.
        off_diagonal: the weight of the covariances, the paper's lambda_od.
        diagonal: the weight of the variances, lambda_d; by default ten times
            the other for variant `"i"`, the same for `"ii"`, as in the paper.
        num_samples: how many samples of z a model draws for each example.
        kl: see `Objective`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        Those of `ELBO`. The posterior is over vectors, with a mean, and for
        variant `"ii"` a covariance.

    Returns:
        `ObjectiveTerms`, each `[B]`, nats per example. The penalty, one number
        for the batch, is the same in each objective, and in
        `reports["moment_penalty"]`.

    Raises:
        TypeError, ValueError: see `Objective`.
        NotImplementedError: if the posterior has no mean or covariance.

    Reference:
        Kumar, Sattigeri, Balakrishnan. Variational inference of disentangled
        latent concepts from unlabeled observations. ICLR 2018 (equations 5
        to 7). https://arxiv.org/abs/1711.00848
    """

    reported = ("moment_penalty",)

    def __init__(
        self,
        variant: str = "i",
        off_diagonal: float = 10.0,
        diagonal: float | None = None,
        num_samples: int = 1,
        kl: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples, kl, **kwargs)
        if variant not in ("i", "ii"):
            raise ValueError(
                f'variant is one of "i" and "ii". Received: {variant!r}.'
            )
        for name, value in (
            ("off_diagonal", off_diagonal),
            ("diagonal", diagonal),
        ):
            if value is not None and not is_weight(value):
                raise ValueError(
                    f"{name} is a number >= 0. Received: {name}={value!r}."
                )
        self.variant = variant
        self.off_diagonal = off_diagonal
        self.diagonal = diagonal

    def combine(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        refuse_joint(
            batch.posterior,
            "The covariance of DIPVAE",
            "Take ELBO(beta=...), which takes a weight for each part.",
        )
        means = batch.posterior.mean()
        if len(means.shape) != 2:
            raise ValueError(
                "DIPVAE takes the covariance of latent vectors: a posterior of "
                "batch shape [B] over [L]. Received: a mean of shape "
                f"{tuple(means.shape)}."
            )
        centered = means - mean_over_first(means)
        rows = ops.cast(ops.shape(means)[0], means.dtype)
        covariance = ops.matmul(ops.transpose(centered), centered) / rows
        if self.variant == "ii":
            covariance += mean_over_first(_covariance(batch.posterior))
        squares = ops.square(
            covariance - ops.eye(means.shape[1], dtype=means.dtype)
        )
        on = ops.sum(ops.diagonal(squares))
        diagonal = self.diagonal
        if diagonal is None:
            diagonal = self.off_diagonal * (10.0 if self.variant == "i" else 1)
        penalty = self.off_diagonal * (ops.sum(squares) - on) + diagonal * on
        elbo = mean_over_first(batch.log_likelihood) - batch.kl
        return elbo - penalty, {"moment_penalty": penalty}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "variant": self.variant,
            "off_diagonal": self.off_diagonal,
            "diagonal": self.diagonal,
        }


def _covariance(posterior: tfd.Distribution) -> Tensor:
    """`[B, L, L]`; TFP has none for an `Independent`."""
    try:
        return posterior.covariance()
    except NotImplementedError:
        variance = factors(posterior).variance()
        return variance[..., None] * ops.eye(
            variance.shape[-1], dtype=variance.dtype
        )
