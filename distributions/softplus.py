"""A softplus that is as fast as memory allows."""

import math

from keras import ops

from tfp_vae.substrate import Tensor

__all__ = ["INVERSE_OF_ONE", "softplus"]

#: The initial value of a scale: the softplus is 1 there.
INVERSE_OF_ONE = math.log(math.expm1(1.0))


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), four times as fast as `ops.softplus` on JAX.

    ```none
    softplus(x) = max(x, 0) + log1p(exp(-|x|))
    ```

    with -|x| as x - 2 max(x, 0), so that the gradient at 0 is right too: 1/2.

    Args:
        x: a tensor of a floating dtype.

    Returns:
        A tensor like x.
    """
    positive = ops.relu(x)
    return positive + ops.log1p(ops.exp(x - 2.0 * positive))
