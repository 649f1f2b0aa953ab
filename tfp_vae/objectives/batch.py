"""The inputs of an objective for one batch, and its results."""

from typing import NamedTuple

from keras import ops

from tfp_vae.checks import check_densities
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "Batch",
    "ObjectiveTerms",
    "log_prob_of_draws",
    "path_only_log_prob",
]


class ObjectiveTerms(NamedTuple):
    """The terms of an objective, each `[B]`, in nats per example.

    Attributes:
        log_likelihood: E_q[log p(x|z)], summed over the event, averaged over
            the samples of z.
        kl: KL(q(z|x) || p(z)), summed over the latent event.
        objective: what is maximised; the loss is minus its mean.
        reports: further scalars of an objective by name, such as the current
            weight of a schedule.
    """

    log_likelihood: Tensor
    kl: Tensor
    objective: Tensor
    reports: dict[str, Tensor] = {}


class Batch(NamedTuple):
    """One checked batch, from which an objective computes its terms.

    Attributes:
        log_likelihood: log p(x|z) of every sample, `[S, B]`, nats.
        kl: KL(q(z|x) || p(z)), `[B]`, nats.
        posterior: q(z|x), of batch shape `[B]`.
        prior: p(z), of batch shape `[]` or `[B]`.
        z: the samples, `[S, B, *latent]`, or None.
        step: the training step, a scalar float tensor, from 0; it stays 0
            for an objective that does not count.
        training: whether in training.
        drawn: the same tensor of samples that was drawn, `[B, *latent]` or
            `[S, B, *latent]`, which a posterior may recognise; None for z.
    """

    log_likelihood: Tensor
    kl: Tensor
    posterior: tfd.Distribution
    prior: tfd.Distribution
    z: Tensor | None
    step: Tensor
    training: bool
    drawn: Tensor | None = None

    @property
    def number(self) -> Tensor:
        """The earlier name of `step`."""
        return self.step

    def samples(self) -> Tensor:
        """`z`, for objectives that need it.

        Returns:
            `[S, B, *latent]`.

        Raises:
            ValueError: if there are none.
        """
        if self.z is None:
            raise ValueError(
                "This objective is computed at samples of the posterior: "
                "pass them as z=posterior.sample(). Received: z=None."
            )
        return self.z

    def log_ratio(self, path_only: bool = False) -> Tensor:
        """log p(z) - log q(z|x) of every sample.

        Args:
            path_only: whether the parameters of the posterior act only through
                the samples (see `path_only_log_prob`).

        Returns:
            `[S, B]`, nats.
        """
        z = self.samples()
        check_densities(self.posterior, self.prior)
        return self.prior.log_prob(z) - self.log_posterior(path_only)

    def log_posterior(self, path_only: bool = False) -> Tensor:
        """log q(z|x) of every sample.

        Args:
            path_only: as in `log_ratio`.

        Returns:
            `[S, B]`, nats.
        """
        z = self.samples() if self.drawn is None else self.drawn
        log_prob = log_prob_of_draws(self.posterior, z)
        if not path_only:
            return log_prob
        return path_only_log_prob(self.posterior, self.samples(), log_prob)

    def log_weights(self, path_only: bool = False) -> Tensor:
        """log p(x, z) - log q(z|x) of every sample.

        Args:
            path_only: as in `log_ratio`.

        Returns:
            `[S, B]`, nats.
        """
        return self.log_likelihood + self.log_ratio(path_only)


def path_only_log_prob(
    distribution: tfd.Distribution, z: Tensor, log_prob: Tensor
) -> Tensor:
    """log q(z), whose gradient in q's parameters goes only through z.

    log q at the same samples, held constant, has the score as its gradient,
    whose mean is zero: this is subtracted. It needs no list of the parameters,
    so any distribution works; a flow is inverted for it.

    Args:
        distribution: q.
        z: reparameterised samples, `[S, B, *latent]`.
        log_prob: log q(z), `[S, B]`.

    Returns:
        `[S, B]`, nats.

    Reference:
        Roeder, Wu, Duvenaud. Sticking the landing. NeurIPS 2017.
        https://arxiv.org/abs/1703.09194
    """
    score = distribution.log_prob(ops.stop_gradient(z))
    return log_prob - (score - ops.stop_gradient(score))


def log_prob_of_draws(distribution: tfd.Distribution, z: Tensor) -> Tensor:
    """log q of draws, given as the same tensor that was drawn.

    A flow recognises it by identity, and need not be inverted.

    Args:
        distribution: q, of batch shape `[B]`.
        z: `[B, *latent]` or `[S, B, *latent]`.

    Returns:
        `[S, B]`, nats; S is 1 without a dimension of samples.
    """
    log_prob = distribution.log_prob(z)
    return log_prob[None] if len(log_prob.shape) == 1 else log_prob
