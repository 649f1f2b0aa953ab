"""Means that keep float64, which `ops.mean` turns into float32 on JAX."""

from keras import ops

from tfp_vae.substrate import Tensor

__all__ = ["mean", "mean_over_first"]


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
