"""Samples of z for a batch of data: `[S, B, ...]` and `[S * B, ...]`."""

from typing import Any

import keras
from keras import ops

from tfp_vae.checks import check_log_prob
from tfp_vae.substrate import Tensor, tfd

__all__ = ["as_one_batch", "copies", "log_likelihood_of_samples"]


def as_one_batch(z: Any) -> Any:
    """Samples in one batch dimension, since a decoder may take no more.

    Args:
        z: `[S, B, *latent]`, of one part or of several.

    Returns:
        `[S * B, *latent]`.
    """
    return keras.tree.map_structure(
        lambda part: ops.reshape(part, (-1, *part.shape[2:])), z
    )


def copies(x: Tensor, samples: int) -> Tensor:
    """Data for a likelihood of batch shape `[S * B]`, sample by sample.

    Args:
        x: `[B, *event]`.
        samples: S.

    Returns:
        `[S * B, *event]`.
    """
    return ops.tile(x, (samples, *[1] * (len(x.shape) - 1)))


def log_likelihood_of_samples(
    x: Tensor, likelihood: tfd.Distribution, samples: int | None
) -> Tensor:
    """log p(x|z) of every sample of z.

    Args:
        x: data, `[B, *event]`, as the likelihood takes them.
        likelihood: p(x|z), of batch shape `[B]`, `[S, B]` or `[S * B]`.
        samples: S, or None if z has no dimension of samples.

    Returns:
        `[S, B]`, nats; S is 1 without a dimension of samples.

    Raises:
        ValueError: if the likelihood gives more than one number for each
            example.
    """
    if samples is not None and len(likelihood.batch_shape) == 1:
        x = copies(x, samples)
    log_likelihood = likelihood.log_prob(x)
    check_log_prob(log_likelihood, likelihood)
    if samples is None:
        return log_likelihood[None]
    return ops.reshape(log_likelihood, (samples, -1))
