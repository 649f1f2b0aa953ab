"""Values that stand for a distribution over scalars."""

import keras
from keras import ops

from tfp_vae.substrate import (
    Tensor,
    dtype_util,
    is_discrete,
    tfb,
    tfd,
    tfp_seed,
)

__all__ = ["class_probs", "inside", "location"]


def class_probs(distribution: tfd.Distribution) -> Tensor | None:
    """The probabilities of outcomes that are classes.

    Args:
        distribution: over scalars.

    Returns:
        `[..., C]`, or None if the outcomes are not classes.
    """
    if isinstance(distribution, tfd.Categorical):
        return distribution.probs_parameter()
    if isinstance(distribution, tfd.OrderedLogistic):
        return distribution.categorical_probs()
    if not isinstance(distribution, tfd.MixtureSameFamily):
        return None
    each = class_probs(distribution.components_distribution)
    if each is None:
        return None
    weights = distribution.mixture_distribution.probs_parameter()
    return ops.sum(weights[..., None] * each, axis=-2)


def location(distribution: tfd.Distribution) -> Tensor:
    """The mean; where it is infinite or undefined, the mode or the median.

    Args:
        distribution: over scalars.

    Returns:
        `batch_shape`.
    """
    found = None
    for statistic in ("mean", "mode"):
        try:
            value = getattr(distribution, statistic)()
        except (NotImplementedError, ValueError):
            continue
        # The mean of a Student-t with one degree of freedom or fewer.
        found = (
            value
            if found is None
            else ops.where(ops.isfinite(found), found, value)
        )
    return distribution.quantile(0.5) if found is None else found


def inside(distribution: tfd.Distribution) -> Tensor:
    """A value of finite density, from the middle if possible.

    Args:
        distribution: over scalars.

    Returns:
        `batch_shape`, or a scalar for the whole batch.
    """
    if isinstance(distribution, tfd.Bernoulli):
        # Not its mode: that would be one more pass over all pixels.
        return ops.zeros(())
    if isinstance(distribution, tfd.Inflated):
        return inside(distribution.parameters["distribution"])
    if isinstance(distribution, tfd.MixtureSameFamily):
        found = inside(distribution.components_distribution)
        return found[..., 0] if found.shape else found
    try:
        if is_discrete(distribution):
            return distribution.mode()
        bijector = distribution.experimental_default_event_space_bijector()
        if isinstance(bijector, tfb.Identity):
            return distribution.mode()
        if bijector is not None:
            zeros = ops.zeros(
                distribution.batch_shape_tensor(),
                keras.backend.standardize_dtype(distribution.dtype),
            )
            return _moderate(distribution, bijector.forward(zeros))
    except (NotImplementedError, AttributeError):
        pass
    return distribution.sample(seed=tfp_seed(0))


def _moderate(distribution: tfd.Distribution, value: Tensor) -> Tensor:
    """The value, or the mean where the density at the value is extreme.

    A power law far from its scale has a gradient that is infinite.
    """
    dtype = distribution.dtype
    bound = float(dtype_util.max(dtype)) ** 0.5
    is_moderate = ops.abs(distribution.log_prob(value)) < bound
    try:
        return ops.where(is_moderate, value, distribution.mean())
    except NotImplementedError:
        return value
