"""The inputs of an objective for one batch, and its results."""

from typing import Any, NamedTuple

import keras
from keras import ops

from tfp_vae.checks import check_densities
from tfp_vae.latents import log_prob_parts, sum_over_parts
from tfp_vae.objectives.divergence import Part
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "Batch",
    "ObjectiveTerms",
    "log_prob_of_draws",
]


class ObjectiveTerms(NamedTuple):
    """The terms of an objective, each `[B]`, in nats per example.

    Attributes:
        log_likelihood: E_q[log p(x|z)], summed over the event, averaged over
            the samples of z.
        kl: KL(q(z|x) || p(z)), summed over the latent event.
        objective: what is maximised; the loss is minus its mean.
        reports: further scalars that an objective gives by name, such as the
            weight that a schedule has reached.
        kl_parts: of a joint posterior, the KL of each part, `[B]`, by name;
            they add up to `kl`.
    """

    log_likelihood: Tensor
    kl: Tensor
    objective: Tensor
    reports: dict[str, Tensor] = {}
    kl_parts: dict[str, Tensor] = {}


class Batch(NamedTuple):
    """One checked batch, from which an objective computes its terms.

    Attributes:
        log_likelihood: log p(x|z) of every sample, `[S, B]`, nats.
        kl: KL(q(z|x) || p(z)), `[B]`, nats.
        posterior: q(z|x), of batch shape `[B]`.
        prior: p(z), of batch shape `[]` or `[B]`.
        z: the samples, `[S, B, *latent]`, by part where there are several, or
            None.
        step: the training step, a scalar float tensor, from 0; it stays 0
            for an objective that does not count.
        training: whether in training.
        drawn: the samples as they were drawn, `[B, *latent]` or
            `[S, B, *latent]`, which a posterior may know again; None for z.
        parts: the latents part by part; of a distribution that is not joint
            the only part, "".
    """

    log_likelihood: Tensor
    kl: Tensor
    posterior: tfd.Distribution
    prior: tfd.Distribution
    z: Any
    step: Tensor
    training: bool
    drawn: Any = None
    parts: dict[str, Part] = {}

    @property
    def number(self) -> Tensor:
        """The earlier name of `step`."""
        return self.step

    def samples(self) -> Any:
        """`z`, where it is needed.

        Returns:
            `[S, B, *latent]`, by part where there are several.

        Raises:
            ValueError: if there are none.
        """
        if self.z is None:
            raise ValueError(
                "This objective is computed at samples of the posterior: "
                "pass them as z=posterior.sample(). Received: z=None."
            )
        return self.z

    def _draws(self) -> Any:
        z = self.samples()
        return z if self.drawn is None else self.drawn

    def log_ratio_parts(self, path_only: bool = False) -> dict[str, Tensor]:
        """log p(z_i) - log q(z_i|x) of each part, given those it depends on.

        Args:
            path_only: whether the parameters of the posterior shall act
                through the samples alone (see `log_posterior_parts`).

        Returns:
            By name, each `[S, B]`, nats.
        """
        z = self._draws()
        check_densities(self.posterior, self.prior, z)
        prior = log_prob_of_draws(self.prior, z)
        return {
            name: prior[name] - log_prob
            for name, log_prob in self.log_posterior_parts(path_only).items()
        }

    def log_ratio(self, path_only: bool = False) -> Tensor:
        """log p(z) - log q(z|x) of every sample.

        Args:
            path_only: as in `log_ratio_parts`.

        Returns:
            `[S, B]`, nats.
        """
        return sum_over_parts(self.log_ratio_parts(path_only))

    def log_posterior_parts(self, path_only: bool = False) -> dict[str, Tensor]:
        """log q(z_i|x) of each part, given those it depends on.

        Args:
            path_only: whether the parameters of the posterior shall act
                through the samples alone. What a second look at the same,
                constant samples gives has the score as its gradient, whose
                mean is zero: it is taken away. This needs no list of the
                parameters, so any distribution will do; a flow is inverted
                for it.

        Returns:
            By name, each `[S, B]`, nats.

        Reference:
            Roeder, Wu, Duvenaud. Sticking the landing. NeurIPS 2017.
            https://arxiv.org/abs/1703.09194
        """
        z = self._draws()
        log_prob = log_prob_of_draws(self.posterior, z)
        if not path_only:
            return log_prob
        constant = keras.tree.map_structure(ops.stop_gradient, z)
        score = log_prob_of_draws(self.posterior, constant)
        return {
            name: value - (score[name] - ops.stop_gradient(score[name]))
            for name, value in log_prob.items()
        }

    def log_posterior(self, path_only: bool = False) -> Tensor:
        """log q(z|x) of every sample.

        Args:
            path_only: as in `log_posterior_parts`.

        Returns:
            `[S, B]`, nats.
        """
        return sum_over_parts(self.log_posterior_parts(path_only))

    def log_weights(self, path_only: bool = False) -> Tensor:
        """log p(x, z) - log q(z|x) of every sample.

        Args:
            path_only: as in `log_ratio`.

        Returns:
            `[S, B]`, nats.
        """
        return self.log_likelihood + self.log_ratio(path_only)


def log_prob_of_draws(
    distribution: tfd.Distribution, z: Any
) -> dict[str, Tensor]:
    """log q of draws, which must come as they were drawn.

    A flow recognises it by identity, and need not be inverted.

    Args:
        distribution: q, of batch shape `[B]`.
        z: `[B, *latent]` or `[S, B, *latent]`, by part.

    Returns:
        Of each part `[S, B]`, nats; S is 1 without a dimension of samples.
    """
    values = log_prob_parts(distribution, z)
    return {
        name: value[None] if len(value.shape) == 1 else value
        for name, value in values.items()
    }
