"""Quadrature for the distributions that have no closed forms."""

from functools import cache

import numpy as np
from keras import ops

from tfp_vae.substrate import Tensor

__all__ = ["gauss_legendre", "log_sum_exp"]


@cache
def gauss_legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre quadrature on (0, 1).

    Args:
        count: how many.

    Returns:
        Two arrays `[count]`, in float64.
    """
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return 0.5 * (nodes + 1.0), 0.5 * weights


def log_sum_exp(log_terms: Tensor, weights: Tensor) -> Tensor:
    """log sum w exp(t) over the last axis, for weights of any sign.

    Args:
        log_terms: t, `[..., n]`.
        weights: w, `[n]` or `[..., n]`.

    Returns:
        `[...]`.
    """
    # With an initial value, as an empty batch has no terms at all.
    top = ops.stop_gradient(
        ops.max(log_terms, axis=-1, keepdims=True, initial=-np.inf)
    )
    total = ops.sum(weights * ops.exp(log_terms - top), axis=-1)
    return top[..., 0] + ops.log(total)
