"""A model as the joint distribution of latent variables and data."""

from collections.abc import Callable
from typing import Any

from keras import ops

from tfp_vae.entries import accepted
from tfp_vae.latents import refuse_joint
from tfp_vae.substrate import Tensor, ps, tfd

__all__ = ["joint_distribution", "joint_of"]


class _Decoded(tfd.Distribution):
    """The likelihood for z of any leading dimensions, from one decoded batch.

    `BatchReshape` whose values broadcast against the batch: one example for
    many z.
    """

    def __init__(
        self,
        likelihood: tfd.Distribution,
        batch_shape: Any,
        name: str = "Decoded",
    ) -> None:
        parameters = dict(locals())
        self._reshaped = tfd.BatchReshape(likelihood, batch_shape)
        super().__init__(
            dtype=likelihood.dtype,
            reparameterization_type=likelihood.reparameterization_type,
            validate_args=False,
            allow_nan_stats=likelihood.allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    def _batch_shape(self) -> Any:
        return self._reshaped.batch_shape

    def _batch_shape_tensor(self) -> Tensor:
        return self._reshaped.batch_shape_tensor()

    def _event_shape(self) -> Any:
        return self._reshaped.event_shape

    def _event_shape_tensor(self) -> Tensor:
        return self._reshaped.event_shape_tensor()

    def _sample_n(self, n: Tensor, seed: Any = None) -> Tensor:
        return self._reshaped.sample(n, seed=seed)

    def _log_prob(self, value: Tensor) -> Tensor:
        own = ps.concat(
            [self.batch_shape_tensor(), self.event_shape_tensor()], axis=0
        )
        shape = ps.broadcast_shape(ps.shape(value), own)
        return self._reshaped.log_prob(ops.broadcast_to(value, shape))

    def _mean(self) -> Tensor:
        return self._reshaped.mean()

    def _variance(self) -> Tensor:
        return self._reshaped.variance()

    def _default_event_space_bijector(self) -> Any:
        return self._reshaped.experimental_default_event_space_bijector()


def joint_distribution(
    vae: Any, conditions: dict[str, Any] | None = None
) -> tfd.JointDistributionNamed:
    """p(z) p(x|z): see `VAE.joint_distribution`.

    Args:
        vae: a `VAE` that is built.
        conditions: by name, one value for all examples.

    Returns:
        A distribution over dicts of `z`, `[..., *latent]`, and `x`,
        `[..., *event]`.

    Raises:
        ValueError: if the model is not built yet.
    """
    if not vae.built:
        raise ValueError(
            "A model that is not built does not know its latent space. Call it "
            "on a batch, or fit it, before joint_distribution(). Received: "
            f"{vae.name}."
        )
    given = conditions or {}
    prior = vae.prior_distribution(
        vae.example_posterior(), **accepted(vae.prior_distribution, given)
    )
    if tuple(prior.batch_shape) == (1,):
        prior = _only_row(prior)
    given = accepted(vae.decode, given)
    return joint_of(prior, lambda z: vae.decode(z, **given))


def _only_row(prior: tfd.Distribution) -> tfd.Distribution:
    """A prior under one condition, as one prior for all."""
    return tfd.BatchReshape(prior, [])


def joint_of(
    prior: tfd.Distribution, decode: Callable[[Tensor], tfd.Distribution]
) -> tfd.JointDistributionNamed:
    """p(z) p(x|z) of a given prior.

    Args:
        prior: p(z).
        decode: from z, `[B, *latent]`, to p(x|z).

    Returns:
        A distribution over dicts of `z`, `[..., *latent]`, and `x`,
        `[..., *event]`.
    """
    refuse_joint(
        prior,
        "The joint distribution of z and x",
        "Take annealed_importance_sampling() for log p(x).",
    )
    latent = tuple(prior.event_shape)

    def likelihood(z: Tensor) -> tfd.Distribution:
        batch_shape = ps.shape(z)[: len(z.shape) - len(latent)]
        flat = ops.reshape(z, (-1, *latent))
        return _Decoded(decode(flat), batch_shape)

    return tfd.JointDistributionNamed({"z": prior, "x": likelihood})
