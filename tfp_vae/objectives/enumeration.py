"""Expectations over all outcomes of a discrete posterior."""

import keras
from keras import ops

from tfp_vae.substrate import Tensor, tfd

__all__ = ["check_enumerable", "expectation", "outcomes"]


def check_enumerable(posterior: tfd.Distribution) -> None:
    """Refuses a posterior that is not one of a few classes.

    Args:
        posterior: q(z|x).

    Raises:
        TypeError: unless it is a `OneHotCategorical` or a `Categorical`.
    """
    if isinstance(posterior, (tfd.OneHotCategorical, tfd.Categorical)):
        return
    raise TypeError(
        "enumerate=True sums over the outcomes of a tfd.OneHotCategorical or a "
        "tfd.Categorical, as the layer OneHotCategorical returns. Received: "
        f"{posterior.name}. Leave enumerate out for any other posterior."
    )


def outcomes(posterior: tfd.Distribution) -> Tensor:
    """All outcomes, for each example.

    Args:
        posterior: q(z|x), of batch shape `[B]` and K classes.

    Returns:
        `[K, B, *event]`.

    Raises:
        TypeError: as `check_enumerable`.
    """
    check_enumerable(posterior)
    logits = posterior.logits_parameter()
    classes = logits.shape[-1]
    dtype = keras.backend.standardize_dtype(posterior.dtype)
    if isinstance(posterior, tfd.Categorical):
        each = ops.arange(classes, dtype=dtype)[:, None]
        return each + ops.zeros_like(logits[:, 0], dtype)[None]
    each = ops.eye(classes, dtype=dtype)[:, None]
    return each + ops.zeros_like(logits, dtype)[None]


def expectation(
    posterior: tfd.Distribution, z: Tensor, values: Tensor
) -> Tensor:
    """E_q of what was worked out at all outcomes.

    Args:
        posterior: q(z|x), of batch shape `[B]`.
        z: its outcomes, `[K, B, *event]`.
        values: at them, `[K, B]`.

    Returns:
        `[B]`.
    """
    probability = ops.exp(posterior.log_prob(z))
    # An outcome that cannot be counts for nothing, whatever is known of it.
    possible = probability > 0
    return ops.sum(
        ops.where(possible, probability * ops.where(possible, values, 0.0), 0),
        axis=0,
    )
