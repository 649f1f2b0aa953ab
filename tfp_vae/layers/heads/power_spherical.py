"""The layer of unit vectors."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import vector_size
from tfp_vae.distributions.softplus import softplus
from tfp_vae.layers.heads.vector_layer import VectorLayer
from tfp_vae.substrate import Tensor, as_tensor, ps, samplers, tfd

__all__ = ["PowerSpherical"]

# So that the direction of a vector of zeros has a finite gradient.
_SMALLEST_SQUARE = 1e-12


class _PowerSpherical(tfd.PowerSpherical):
    """TFP's, with a finite gradient and a finite density of a draw.

    TFP draws t = m . z as 2 b - 1, with b from a beta distribution, and takes
    sqrt(1 - t**2), whose gradient is infinite where t rounds to 1 or -1.
    """

    def _sample_n(self, n: int, seed: Any = None) -> Tensor:
        beta_seed, seed = samplers.split_seed(seed, salt="power_spherical")
        m, k = as_tensor(self.mean_direction), as_tensor(self.concentration)
        k = k + ops.zeros_like(m[..., 0])
        half = ops.full_like(k, 0.5 * (m.shape[-1] - 1))
        b = tfd.Beta(half + k, half).sample(n, seed=beta_seed)
        b = ops.clip(b, self._eps, 1.0 - 2.0 * self._eps)
        b = b[..., None]
        shape = ps.concat([ps.shape(b)[:-1], [m.shape[-1] - 1]], 0)
        across = samplers.normal(shape, dtype=b.dtype, seed=seed)
        if m.shape[-1] > 2:
            across = _normalized(across)
        else:
            across = 1.0 - 2.0 * ops.cast(across < 0.0, b.dtype)
        z = ops.concatenate(
            [2.0 * b - 1.0, 2.0 * ops.sqrt(b * (1.0 - b)) * across], axis=-1
        )
        # The reflection that brings the first axis to m.
        u = ops.concatenate([1.0 - m[..., :1], -m[..., 1:]], axis=-1)
        u = _normalized(u)
        return _normalized(z - 2.0 * ops.sum(z * u, -1, keepdims=True) * u)

    def _log_unnormalized_prob(
        self, samples: Tensor, concentration: Tensor = None
    ) -> Tensor:
        k = self.concentration if concentration is None else concentration
        t = ops.sum(samples * self.mean_direction, axis=-1)
        return k * ops.log1p(ops.clip(t, self._eps - 1.0, 1.0))

    @property
    def _eps(self) -> float:
        dtype = keras.backend.standardize_dtype(self.dtype)
        return float(np.finfo(dtype).eps)


def _normalized(x: Tensor) -> Tensor:
    """x / |x|, with a finite gradient at 0."""
    square = ops.sum(x**2, axis=-1, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, _SMALLEST_SQUARE))


@keras.saving.register_keras_serializable("tfp_vae")
class PowerSpherical(VectorLayer):
    """Unit vectors about a mean direction: a posterior on the sphere.

    ```none
    p(z) proportional to (1 + m . z)**k,   |z| = |m| = 1
    ```

    It is like the von Mises-Fisher distribution, but reparameterised, which
    TFP's von Mises-Fisher is not. As a posterior its default prior is the
    uniform distribution on the sphere, with an exact KL divergence.

    Args:
        event_size: int, the length L of the vectors, at least 2.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., event_size + 1]`: the direction, of any length, and the
            concentration k before its softplus.

    Returns:
        `tfd.PowerSpherical`, event shape `[event_size]`.

    Raises:
        ValueError: if `event_size` is less than 2, or the inputs are of the
            wrong width.

    Reference:
        De Cao, Aziz. The power spherical distribution. 2020.
        https://arxiv.org/abs/2006.04437
    """

    def __init__(
        self, event_size: int, convert_to_tensor_fn: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(event_size, convert_to_tensor_fn, **kwargs)
        if self.event_size < 2:
            raise ValueError(
                "Unit vectors have at least 2 elements. Received: "
                f"event_size={event_size!r}."
            )

    @staticmethod
    def params_size(event_size: int) -> int:
        """`event_size + 1`."""
        return vector_size(event_size) + 1

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        direction = params[..., :-1]
        square = ops.sum(direction**2, axis=-1, keepdims=True)
        length = ops.sqrt(ops.maximum(square, _SMALLEST_SQUARE))
        # For a vector of zeros the first axis, since a direction is needed.
        first = ops.one_hot(
            ops.zeros_like(direction[..., 0], dtype="int32"),
            self.event_size,
            dtype=direction.dtype,
        )
        unit = ops.where(square > _SMALLEST_SQUARE, direction / length, first)
        return _PowerSpherical(unit, softplus(params[..., -1]))
