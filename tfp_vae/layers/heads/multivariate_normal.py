"""Layers that return Gaussians over vectors."""

from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_min_scale, vector_size
from tfp_vae.distributions.softplus import softplus
from tfp_vae.layers.heads.vector_layer import VectorLayer
from tfp_vae.substrate import Tensor, tfb, tfd

__all__ = ["MultivariateNormalDiag", "MultivariateNormalTriL"]


@keras.saving.register_keras_serializable("tfp_vae")
class MultivariateNormalDiag(VectorLayer):
    """A Gaussian of diagonal covariance over vectors.

    Args:
        event_size: int, the length of the vector.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: the floor of the standard deviations, which are
            `softplus(x) + min_scale`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., 2 * event_size]`: means, then raw standard deviations.

    Returns:
        `tfd.MultivariateNormalDiag`, event shape `[event_size]`.

    Raises:
        ValueError: if `event_size` is not a positive int, or the inputs are of
            the wrong width.
    """

    def __init__(
        self,
        event_size: int,
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_size, convert_to_tensor_fn, **kwargs)
        self.min_scale = check_min_scale(min_scale)

    @staticmethod
    def params_size(event_size: int) -> int:
        """`2 * event_size`."""
        return 2 * vector_size(event_size)

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        loc, raw_scale = ops.split(params, 2, axis=-1)
        return tfd.MultivariateNormalDiag(
            loc=loc, scale_diag=softplus(raw_scale) + self.min_scale
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "min_scale": self.min_scale}


@keras.saving.register_keras_serializable("tfp_vae")
class MultivariateNormalTriL(VectorLayer):
    """A Gaussian of full covariance over vectors, by its Cholesky factor.

    Args:
        event_size: int, the length of the vector.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., event_size + event_size * (event_size + 1) / 2]`: means,
            then the triangle in the order of `tfb.FillScaleTriL`, its diagonal
            `softplus(x) + 1e-5` (the parameterisation of `tfp.layers`).

    Returns:
        `tfd.MultivariateNormalTriL`, event shape `[event_size]`.

    Raises:
        ValueError: if `event_size` is not a positive int, or the inputs are of
            the wrong width.
    """

    @staticmethod
    def params_size(event_size: int) -> int:
        """`event_size + event_size * (event_size + 1) / 2`."""
        event_size = vector_size(event_size)
        return event_size + event_size * (event_size + 1) // 2

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        fill = tfb.FillScaleTriL(diag_shift=ops.cast(1e-5, params.dtype))
        return tfd.MultivariateNormalTriL(
            loc=params[..., : self.event_size],
            scale_tril=fill.forward(params[..., self.event_size :]),
        )
