"""The masks of MADE: the weights that an order of the inputs allows."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["made_masks"]


def made_masks(
    order: Sequence[int],
    hidden_units: Sequence[int],
    num_outputs: int,
    with_context: bool = False,
) -> list[np.ndarray]:
    """Masks that make output i depend only on the inputs before i.

    ```none
    degree of an input   its place in the order, 1 to L
    hidden unit          sees what has a degree up to its own
    output               sees hidden units of a smaller degree than its own
    ```

    Args:
        order: the inputs, first to last, a permutation of 0 to L - 1.
        hidden_units: sizes of the hidden layers.
        num_outputs: outputs for each input; the first output of all inputs
            comes first, then the second, and so on.
        with_context: whether hidden units also see a context. Then some of them
            have the degree 0: the first output depends only on the context.

    Returns:
        A mask of 0 and 1 for each kernel, `[inputs, outputs]`.

    Reference:
        Germain, Gregor, Murray, Larochelle. MADE: masked autoencoder for
        distribution estimation. ICML 2015. https://arxiv.org/abs/1502.03509
    """
    size = len(order)
    inputs = np.empty(size, int)
    inputs[list(order)] = np.arange(1, size + 1)
    lowest = 0 if with_context or size == 1 else 1
    degrees = [inputs]
    for units in hidden_units:
        # From the lowest to L - 1, with equally many units of each degree.
        count = size - lowest
        degrees.append(
            np.array(
                [lowest + math.floor(i * count / units) for i in range(units)]
            )
        )
    masks = [
        before[:, None] <= after
        for before, after in itertools.pairwise(degrees)
    ]
    masks.append(degrees[-1][:, None] < np.tile(inputs, num_outputs))
    return [mask.astype("float32") for mask in masks]
