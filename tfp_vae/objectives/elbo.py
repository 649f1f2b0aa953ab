"""The evidence lower bound, for any likelihood, posterior and prior."""

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from tfp_vae.distributions import factorized_kl_divergence, kl_divergence
from tfp_vae.distributions.serialization import serialize_function
from tfp_vae.objectives import checks
from tfp_vae.substrate import Tensor, tfd

__all__ = ["ELBO", "ObjectiveTerms", "standard_normal"]


class ObjectiveTerms(NamedTuple):
    """The terms of an objective, each `[B]`, in nats per example.

    Attributes:
        log_likelihood: E_q[log p(x|z)], summed over the event, averaged over
            the samples of z.
        kl: KL(q(z|x) || p(z)), summed over the latent event.
        objective: what is maximised; the loss is minus its mean.
    """

    log_likelihood: Tensor
    kl: Tensor
    objective: Tensor


def standard_normal(posterior: tfd.Distribution) -> tfd.Distribution:
    """The standard normal over the posterior's event shape and dtype.

    Args:
        posterior: any distribution.

    Returns:
        A distribution of empty batch shape.
    """
    event_shape = tuple(posterior.event_shape)
    dtype = keras.backend.standardize_dtype(posterior.dtype)
    return tfd.Independent(
        tfd.Normal(ops.zeros(event_shape, dtype), ops.ones(event_shape, dtype)),
        reinterpreted_batch_ndims=len(event_shape),
    )


def _mean(values: Tensor) -> Tensor:
    """Over the first axis; `ops.mean` takes float64 as float32 on JAX."""
    total = ops.sum(values, axis=0)
    return total / ops.cast(ops.shape(values)[0], total.dtype)


@keras.saving.register_keras_serializable("tfp_vae")
class ELBO(keras.layers.Layer):
    """The evidence lower bound, and its beta and free-bits variants.

    ```none
    ELBO      = E_q[log p(x|z)] - KL(q(z|x) || p(z))        <= log p(x)
    objective = E_q[log p(x|z)] - beta * KL
    ```

    It knows no likelihood by name: it calls `log_prob` and `kl_divergence`.
    With `free_bits` the KL in the objective (not the `kl` that is reported)
    becomes the sum over latent coordinates of max(free_bits, the batch's mean
    KL of that coordinate), which takes posterior and prior to be Gaussians of
    diagonal covariance; any other pair counts as one coordinate.

    Args:
        beta: the weight of the KL, a number, or a function from the training
            step (a scalar float tensor, from 0) to one. A function is saved
            with the model if it is registered with Keras.
        kl: `"exact"` (the closed form, an error where none is known),
            `"monte_carlo"` (log q(z|x) - log p(z) at the samples), or `"auto"`
            (the first where it is known, else the second).
        num_samples: how many samples of z a model draws for each example.
        free_bits: nats for each latent coordinate that cost nothing.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: data, `[B, *event]`, of the likelihood's dtype or of an integer one.
        posterior: q(z|x), a distribution of batch shape `[B]`.
        likelihood: p(x|z), of batch shape `[B]`, or with S samples `[S, B]`, or
            `[S * B]`, sample by sample.
        prior: p(z), of batch shape `[]` or `[B]`; by default standard normal.
        z: the samples, `[B, *latent]` or `[S, B, *latent]`. Only a Monte Carlo
            KL and S > 1 need them.
        training: whether the step of a scheduled beta moves on.

    Returns:
        `ObjectiveTerms`: `log_likelihood`, `kl` and `objective`, each `[B]`,
        nats per example.

    Raises:
        TypeError: if one of the three is no distribution.
        ValueError: while tracing, if event, batch or latent shapes do not fit,
            if dtypes disagree, or an argument is out of range.
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
    """

    def __init__(
        self,
        beta: float | Callable[[Tensor], Tensor] = 1.0,
        kl: str = "auto",
        num_samples: int = 1,
        free_bits: float = 0.0,
        **kwargs: Any,
    ) -> None:
        # Data must reach log_prob as they are, whatever the precision policy.
        super().__init__(autocast=False, **kwargs)
        if not callable(beta) and not (
            isinstance(beta, numbers.Real) and 0 <= beta < float("inf")
        ):
            raise ValueError(
                "beta weighs the KL and is a number >= 0 or a function of the "
                f"training step. Received: beta={beta!r}."
            )
        if kl not in ("auto", "exact", "monte_carlo"):
            raise ValueError(
                'kl is one of "auto", "exact" and "monte_carlo". Received: '
                f"kl={kl!r}."
            )
        if isinstance(num_samples, bool) or not (
            isinstance(num_samples, int) and num_samples >= 1
        ):
            raise ValueError(
                "num_samples is an int >= 1. Received: "
                f"num_samples={num_samples!r}."
            )
        if not free_bits >= 0:
            raise ValueError(
                "free_bits are nats for each latent coordinate, >= 0. "
                f"Received: free_bits={free_bits!r}."
            )
        self.beta = beta
        self.kl = kl
        self.num_samples = num_samples
        self.free_bits = free_bits
        if callable(beta):
            self.step = self.add_weight(
                shape=(),
                dtype="int32",
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
                name="step",
            )
        self.built = True

    def call(
        self,
        x: Tensor,
        posterior: tfd.Distribution,
        likelihood: tfd.Distribution,
        prior: tfd.Distribution | None = None,
        z: Tensor | None = None,
        training: bool | None = None,
    ) -> ObjectiveTerms:
        checks.check_distribution(
            posterior, "the posterior", "MultivariateNormalDiag"
        )
        checks.check_distribution(
            likelihood, "the likelihood", "IndependentNormal"
        )
        if prior is None:
            prior = standard_normal(posterior)
        checks.check_distribution(prior, "the prior", "DistributionLambda")
        samples = checks.check_latent(posterior, prior, z)
        checks.check_likelihood(likelihood, x, samples)
        x = checks.in_dtype_of(likelihood, x)

        log_likelihood = self._log_likelihood(x, likelihood, samples)
        kl = self._kl(posterior, prior, z, samples)
        penalty = self._free_bits(posterior, prior, kl)
        objective = log_likelihood - self._beta(training, kl) * penalty
        return ObjectiveTerms(log_likelihood, kl, objective)

    def _log_likelihood(
        self, x: Tensor, likelihood: tfd.Distribution, samples: int | None
    ) -> Tensor:
        if samples is None:
            log_likelihood = likelihood.log_prob(x)
            checks.check_log_prob(log_likelihood, likelihood)
            return log_likelihood
        if len(likelihood.batch_shape) == 1:
            x = ops.tile(x, (samples, *[1] * (len(x.shape) - 1)))
        log_likelihood = likelihood.log_prob(x)
        checks.check_log_prob(log_likelihood, likelihood)
        return _mean(ops.reshape(log_likelihood, (samples, -1)))

    def _kl(
        self,
        posterior: tfd.Distribution,
        prior: tfd.Distribution,
        z: Tensor | None,
        samples: int | None,
    ) -> Tensor:
        if self.kl != "monte_carlo":
            try:
                return kl_divergence(posterior, prior)
            except NotImplementedError as error:
                if self.kl == "exact":
                    raise NotImplementedError(
                        "No closed form is known for the KL divergence of "
                        f"{posterior.name} from {prior.name}: take "
                        'kl="monte_carlo" or kl="auto".'
                    ) from error
        if z is None:
            raise ValueError(
                "A Monte Carlo KL is worked out at samples of the posterior: "
                "pass them as z=posterior.sample()."
            )
        kl = posterior.log_prob(z) - prior.log_prob(z)
        return kl if samples is None else _mean(kl)

    def _free_bits(
        self, posterior: tfd.Distribution, prior: tfd.Distribution, kl: Tensor
    ) -> Tensor:
        if self.free_bits == 0:
            return kl
        try:
            coordinates = factorized_kl_divergence(posterior, prior)
        except NotImplementedError:
            coordinates = kl[:, None]
        return ops.sum(ops.maximum(_mean(coordinates), self.free_bits))

    def _beta(self, training: bool | None, like: Tensor) -> Tensor | float:
        if not callable(self.beta):
            return self.beta
        step = ops.cast(self.step, like.dtype)
        if training:
            self.step.assign_add(1)
        return ops.cast(self.beta(step), like.dtype)

    def get_config(self) -> dict[str, Any]:
        beta = self.beta
        if callable(beta):
            beta = serialize_function(beta, "The beta of an ELBO")
        return {
            **super().get_config(),
            "beta": beta,
            "kl": self.kl,
            "num_samples": self.num_samples,
            "free_bits": self.free_bits,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ELBO":
        config = dict(config)
        if isinstance(config["beta"], dict):
            config["beta"] = keras.saving.deserialize_keras_object(
                config["beta"]
            )
        return cls(**config)
