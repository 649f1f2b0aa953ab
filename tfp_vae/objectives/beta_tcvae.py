"""The KL in three parts: information, total correlation, and the rest."""

import math
import numbers
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions import factors
from tfp_vae.latents import refuse_joint
from tfp_vae.objectives.batch import Batch
from tfp_vae.objectives.objective import Objective, Schedule
from tfp_vae.reduction import mean_over_first
from tfp_vae.substrate import Tensor

__all__ = ["BetaTCVAE"]


@keras.saving.register_keras_serializable("tfp_vae")
class BetaTCVAE(Objective):
    """A weight for each part of the KL, mainly the total correlation.

    ```none
    mean KL   = I(x; z) + TC(z) + D(z)
    I         = E[log q(z|x) - log q(z)]          index-code information
    TC        = E[log q(z) - sum_i log q(z_i)]    total correlation
    D         = E[sum_i log q(z_i) - log p(z)]    KL of single coordinates
    objective = E_q[log p(x|z)] - alpha I - beta TC - gamma D
    ```

    The aggregate posterior q(z) is estimated by minibatch weighted sampling
    from the B posteriors of the batch and the size N of the data:

    ```none
    log q(z) ~ log(1/(N B) sum_j q(z|x_j))
    ```

    whose error is a constant, except for what a batch cannot show. So read I
    and TC only as differences. With all three weights 1 the objective is the
    ELBO with a Monte Carlo KL.

    Args:
        data_size: N, how many examples there are to train on.
        beta: the weight of the total correlation, a number or a function of
            the training step.
        alpha: the weight of the information, likewise.
        gamma: the weight of the rest, likewise.
        num_samples: how many samples of z a model draws for each example.
        kl: see `Objective`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        Those of `ELBO`; z is needed. The coordinates of the posterior must be
        independent: see `distributions.factors`.

    Returns:
        `ObjectiveTerms`, each `[B]`, nats per example. `reports` has the means
        over the batch `mutual_information`, `total_correlation` and
        `dimension_kl`.

    Raises:
        TypeError, ValueError: see `Objective`.
        NotImplementedError: if the coordinates of the posterior may depend on
            each other.

    Reference:
        Chen, Li, Grosse, Duvenaud. Isolating sources of disentanglement in
        variational autoencoders. NeurIPS 2018 (equations 2 to 5).
        https://arxiv.org/abs/1802.04942
    """

    scheduled = ("beta", "alpha", "gamma")
    reported = ("mutual_information", "total_correlation", "dimension_kl")

    def __init__(
        self,
        data_size: int,
        beta: Schedule = 6.0,
        alpha: Schedule = 1.0,
        gamma: Schedule = 1.0,
        num_samples: int = 1,
        kl: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples, kl, **kwargs)
        if isinstance(data_size, bool) or not (
            isinstance(data_size, numbers.Integral) and data_size >= 1
        ):
            raise ValueError(
                "data_size is the number of examples to train on, an int >= 1. "
                f"Received: data_size={data_size!r}."
            )
        self.data_size: int = int(data_size)
        self.set_schedules(beta=beta, alpha=alpha, gamma=gamma)

    def combine(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        refuse_joint(
            batch.posterior,
            "Total correlation",
            "Take ELBO(beta=...), which takes a weight for each part.",
        )
        z = batch.samples()
        log_posterior = batch.log_posterior()
        # Each sample under each posterior: [S, B, B, latent coordinates].
        pairs = factors(batch.posterior).log_prob(z[:, :, None])
        pairs = ops.reshape(pairs, (*ops.shape(pairs)[:3], -1))
        log_batch = ops.log(ops.cast(ops.shape(pairs)[2], pairs.dtype))
        log_count = log_batch + math.log(self.data_size)
        joint = ops.logsumexp(ops.sum(pairs, -1), axis=2) - log_count
        single = ops.sum(ops.logsumexp(pairs, axis=2) - log_count, -1)
        parts = {
            "alpha": log_posterior - joint,
            "beta": joint - single,
            "gamma": single - batch.prior.log_prob(z),
        }
        objective = mean_over_first(batch.log_likelihood)
        means = []
        for name, values in parts.items():
            part = mean_over_first(values)
            objective -= self.at(name, batch) * part
            means.append(mean_over_first(part))
        return objective, dict(zip(self.reported, means, strict=True))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "data_size": self.data_size}
