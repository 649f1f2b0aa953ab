"""The layer of unit vectors."""

from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import vector_size
from tfp_vae.distributions.softplus import softplus
from tfp_vae.layers.heads.vector_layer import VectorLayer
from tfp_vae.substrate import Tensor, tfd

__all__ = ["PowerSpherical"]

# So that the direction of a vector of zeros has a finite gradient.
_SMALLEST_SQUARE = 1e-12


@keras.saving.register_keras_serializable("tfp_vae")
class PowerSpherical(VectorLayer):
    """Unit vectors about a mean direction: a posterior on the sphere.

    ```none
    p(z) proportional to (1 + m . z)**k,   |z| = |m| = 1
    ```

    Like the von Mises-Fisher distribution, which TFP does not reparameterise,
    but reparameterised. As a posterior its default prior is the uniform
    distribution on the sphere, from which its KL divergence is exact.

    Args:
        event_size: int, the length L of the vectors, at least 2.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., event_size + 1]`: the direction, of any length, and the
            concentration k, of which the softplus is taken.

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
        # Of a vector of zeros the first axis, since a direction is needed.
        first = ops.one_hot(
            ops.zeros_like(direction[..., 0], dtype="int32"),
            self.event_size,
            dtype=direction.dtype,
        )
        unit = ops.where(square > _SMALLEST_SQUARE, direction / length, first)
        return tfd.PowerSpherical(unit, softplus(params[..., -1]))
