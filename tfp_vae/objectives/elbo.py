"""The evidence lower bound, for any likelihood, posterior and prior."""

import contextlib
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_one_of
from tfp_vae.distributions import factorized_kl_divergence
from tfp_vae.objectives.batch import Batch, Part
from tfp_vae.objectives.enumeration import (
    check_enumerable,
    expectation,
    outcomes,
)
from tfp_vae.objectives.objective import (
    Objective,
    PartSchedule,
    Schedule,
)
from tfp_vae.reduction import mean_over_first
from tfp_vae.substrate import Tensor, tfd

__all__ = ["ELBO"]


@keras.saving.register_keras_serializable("tfp_vae")
class ELBO(Objective):
    """The evidence lower bound, and its beta, capacity and free-bits variants.

    ```none
    ELBO      = E_q[log p(x|z)] - KL(q(z|x) || p(z))        <= log p(x)
    objective = E_q[log p(x|z)] - beta * penalty
    penalty   = KL                                          by default
              = sum_i max(free_bits, mean over the batch of KL_i)
              = |mean over the batch of KL - capacity|
    ```

    The KL that is reported is always the first. Free bits are counted for each
    latent coordinate i, which takes posterior and prior to be Gaussians of
    diagonal covariance; any other pair counts as one coordinate. Of a joint
    posterior each part has a penalty, and may have a weight of its own.

    Args:
        beta: the weight of the KL, a number, or a function from the training
            step (a scalar float tensor, from 0) to one, such as
            `LinearWarmup`. A function of your own is saved with the model if it
            is registered with Keras. For joint latents also a dict of them by
            part.
        kl: `"exact"` (the closed form, an error where none is known),
            `"monte_carlo"` (log q(z|x) - log p(z) at the samples), or `"auto"`
            (the first where it is known, otherwise the second).
        num_samples: how many samples of z a model draws for each example.
        free_bits: nats for each latent coordinate that cost nothing; for joint
            latents also a dict by part.
        capacity: nats that the KL is drawn to, a number or a function of the
            step, or None. Usually with a large `beta` and a `LinearWarmup`.
        gradient: `"standard"`, or `"stl"` (sticking the landing): the KL by
            Monte Carlo, and the posterior's parameters act through the samples
            alone, so that the gradient has no noise left where the posterior
            is exact.
        enumerate: whether the expectation over z is the sum over all K classes
            of a `OneHotCategorical` or `Categorical` posterior, which need not
            be reparameterised then. It decodes K times as many rows, and has no
            noise. z are then the outcomes, `[K, B, *latent]`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: data, `[B, *event]`, of the likelihood's dtype or of an integer one.
        posterior: q(z|x), a distribution of batch shape `[B]`.
        likelihood: p(x|z), of batch shape `[B]`, or with S samples `[S, B]`, or
            `[S * B]`, sample by sample.
        prior: p(z), of batch shape `[]` or `[B]`; by default standard normal.
        z: the samples, `[B, *latent]` or `[S, B, *latent]`. Only a Monte Carlo
            KL and S > 1 need them.
        training: whether the step of a schedule advances.

    Returns:
        `ObjectiveTerms`: `log_likelihood`, `kl` and `objective`, each `[B]`,
        nats per example.

    Raises:
        TypeError: if one of the three is not a distribution.
        ValueError: while tracing, if event, batch or latent shapes do not fit
            or dtypes disagree; also if arguments are out of range or exclude
            each other.
        NotImplementedError: with `kl="exact"`, if no closed form is known.

    Example:
    ```python
    elbo = ELBO()
    terms = elbo(x, posterior=q, likelihood=p, z=z)
    loss = -keras.ops.mean(terms.objective)
    ```

    References:
        Kingma, Welling. Auto-encoding variational Bayes. ICLR 2014.
        https://arxiv.org/abs/1312.6114
        Higgins et al. beta-VAE. ICLR 2017.
        https://openreview.net/forum?id=Sy2fzU9gl
        Kingma et al. Improving variational inference with inverse
        autoregressive flow (free bits: equation 15). NeurIPS 2016.
        https://arxiv.org/abs/1606.04934
        Burgess et al. Understanding disentangling in beta-VAE (capacity:
        equation 8). 2018. https://arxiv.org/abs/1804.03599
        Roeder, Wu, Duvenaud. Sticking the landing. NeurIPS 2017.
        https://arxiv.org/abs/1703.09194
    """

    scheduled = ("beta", "capacity")
    by_part = ("beta",)

    def __init__(
        self,
        beta: PartSchedule = 1.0,
        kl: str = "auto",
        num_samples: int = 1,
        free_bits: float | dict[str, float] = 0.0,
        capacity: Schedule | None = None,
        gradient: str = "standard",
        enumerate: bool = False,  # noqa: A002 (the word of the field)
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples, kl, **kwargs)
        self.enumerate = enumerate
        if enumerate and (num_samples != 1 or gradient == "stl"):
            raise ValueError(
                "enumerate=True takes each outcome of z once, and draws none. "
                f"Received: num_samples={num_samples!r}, "
                f"gradient={gradient!r}. Leave them out."
            )
        by_part = free_bits if isinstance(free_bits, dict) else {"": free_bits}
        if not all(bits >= 0 for bits in by_part.values()):
            raise ValueError(
                "free_bits are nats for each latent coordinate, >= 0. "
                f"Received: free_bits={free_bits!r}."
            )
        check_one_of("gradient", gradient, ("standard", "stl"))
        if free_bits and capacity is not None:
            raise ValueError(
                "free_bits and capacity each replace the KL by a penalty of "
                f"their own: take one. Received: free_bits={free_bits!r}, "
                f"capacity={capacity!r}."
            )
        if isinstance(beta, dict) and capacity is not None:
            raise ValueError(
                "capacity is one for the KL of all parts, and so is its "
                f"weight. Received: beta={beta!r}, capacity={capacity!r}."
            )
        if gradient == "stl" and (free_bits or kl == "exact"):
            raise ValueError(
                'gradient="stl" needs a Monte Carlo KL: free_bits and '
                'kl="exact" are computed in closed form. Received: '
                f"free_bits={free_bits!r}, kl={kl!r}."
            )
        self.free_bits = free_bits
        self.gradient = gradient
        self.capacity = capacity
        weights = {} if capacity is None else {"capacity": capacity}
        self.set_schedules(beta=beta, **weights)

    def draw(self, posterior: tfd.Distribution, seed: Any) -> Any:
        if self.enumerate:
            return outcomes(posterior)
        return super().draw(posterior, seed)

    def expectation(self, values: Tensor, batch: Batch) -> Tensor:
        if self.enumerate:
            check_enumerable(batch.posterior)
            return expectation(batch.posterior, batch.samples(), values)
        return super().expectation(values, batch)

    def combine(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        kl = {name: part.kl for name, part in batch.parts.items()}
        if self.gradient == "stl":
            ratios = batch.log_ratio_parts(path_only=True)
            kl = {name: -mean_over_first(r) for name, r in ratios.items()}
        if self.free_bits:
            bits = self.at_parts("free_bits", batch)
            kl = {n: _free(part, bits[n]) for n, part in batch.parts.items()}
        objective = self.expectation(batch.log_likelihood, batch)
        if self.capacity is not None:
            distance = mean_over_first(sum(kl.values())) - self.at(
                "capacity", batch
            )
            return objective - self.at("beta", batch) * ops.abs(distance), {}
        for name, beta in self.at_parts("beta", batch).items():
            objective -= beta * kl[name]
        return objective, {}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "free_bits": self.free_bits,
            "gradient": self.gradient,
            "enumerate": self.enumerate,
        }


def _free(part: Part, bits: float) -> Tensor:
    """The penalty of a part with free bits, a scalar."""
    coordinates = part.kl[:, None]
    if part.is_closed:
        with contextlib.suppress(NotImplementedError):
            each = factorized_kl_divergence(part.posterior, part.prior)
            coordinates = ops.reshape(each, (-1, each.shape[-1]))
    return ops.sum(ops.maximum(mean_over_first(coordinates), bits))
