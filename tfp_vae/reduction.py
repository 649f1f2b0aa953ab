"""Means that keep float64, and the reduction of Keras' losses.

`ops.mean` turns float64 into float32 on JAX.
"""

import keras
from keras import ops

from tfp_vae.substrate import Tensor

__all__ = ["Reduction", "mean", "mean_over_first", "reduce_loss"]


def mean(values: Tensor) -> Tensor:
    """The mean of all elements.

    Args:
        values: a tensor.

    Returns:
        A scalar.
    """
    return mean_over_first(ops.reshape(values, (-1,)))


def mean_over_first(values: Tensor) -> Tensor:
    """The mean over the first axis.

    Args:
        values: `[S, ...]`.

    Returns:
        `[...]`.
    """
    total = ops.sum(values, axis=0)
    return total / ops.cast(ops.shape(values)[0], total.dtype)


class Reduction(keras.losses.Loss):
    """Reduces given losses, with weights, masks and replicas."""

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred


def reduce_loss(
    losses: Tensor,
    sample_weight: Tensor | None = None,
    reduction: str | None = "sum_over_batch_size",
    name: str | None = None,
) -> Tensor:
    """One loss for the batch from one for each example, as Keras does it.

    Args:
        losses: `[B]`.
        sample_weight: `[B]`, the weight of each example, or None.
        reduction: of `keras.losses.Loss`.
        name: of the loss, for Keras' name scope.

    Returns:
        A scalar of the dtype of the losses, or `[B]` without a reduction.
    """
    dtype = keras.backend.standardize_dtype(losses.dtype)
    return Reduction(name, reduction, dtype)(losses, losses, sample_weight)
