"""The networks of flows: weights as tensors, and a function of them."""

from collections.abc import Callable, Sequence

from keras import ops

from tfp_vae.distributions.softplus import softplus
from tfp_vae.substrate import Tensor

__all__ = ["LOG_SCALE_BOUND", "apply_network", "bounded", "softplus"]

#: Bound of the log of a scale: a factor between 1 / 148 and 148.
LOG_SCALE_BOUND = 5.0


def apply_network(
    x: Tensor,
    kernels: Sequence[Tensor],
    biases: Sequence[Tensor],
    from_context: Tensor | None,
    activation: Callable[[Tensor], Tensor],
) -> Tensor:
    """A network of dense layers.

    Args:
        x: `[..., inputs]`.
        kernels: `[inputs, outputs]` each.
        biases: `[outputs]` each.
        from_context: added before the first activation, or None.
        activation: of all layers except the last.

    Returns:
        `[..., outputs]`.
    """
    last = len(kernels) - 1
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        x = ops.matmul(x, kernel) + bias
        if i == 0 and from_context is not None:
            x = x + from_context
        if i < last:
            x = activation(x)
    return x


def bounded(x: Tensor) -> Tensor:
    """About x near 0, and in absolute value never above `LOG_SCALE_BOUND`.

    A scale of a flow then neither vanishes nor grows without bound. It uses a
    division, since on JAX Keras computes `tanh` in float32.

    Args:
        x: a tensor.

    Returns:
        A tensor like x.
    """
    return x / (1.0 + ops.abs(x) / LOG_SCALE_BOUND)
