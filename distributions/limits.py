"""The ends of the range of a floating dtype."""

import keras

from tfp_vae.substrate import Tensor

__all__ = ["largest"]

# NumPy does not know bfloat16; its largest number is the least of these.
_LARGEST = {"float16": 65504.0, "float64": 1.7976931348623157e308}


def largest(tensor: Tensor) -> float:
    """About the largest number of a tensor's dtype, and never inf.

    Args:
        tensor: of a floating dtype.

    Returns:
        A float that the dtype holds.
    """
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return _LARGEST.get(dtype, 3.3895e38)
