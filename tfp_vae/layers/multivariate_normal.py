"""Layers that return Gaussians over vectors."""

from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.softplus import softplus
from tfp_vae.layers.distribution_layer import (
    DistributionLayer,
    canonical_event_shape,
    check_min_scale,
    check_width,
)
from tfp_vae.substrate import Tensor, tfb, tfd

__all__ = ["MultivariateNormalDiag", "MultivariateNormalTriL"]


def _size(event_size: int) -> int:
    shape = canonical_event_shape(event_size)
    if len(shape) != 1:
        raise ValueError(
            "A distribution over vectors takes their size. Received: "
            f"event_size={event_size!r}."
        )
    return shape[0]


class _VectorLayer(DistributionLayer):
    """The common part: an event of one dimension, parameters flat.

    Subclasses bring `params_size(event_size)`.
    """

    def __init__(self, event_size: int, **kwargs: Any) -> None:
        super().__init__(_size(event_size), **kwargs)
        self.event_size = self.event_shape[0]

    @staticmethod
    def params_size(event_size: int) -> int:
        raise NotImplementedError

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_width(self, input_shape[-1], self.params_size(self.event_size))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["event_shape"]
        return {**config, "event_size": self.event_size}


@keras.saving.register_keras_serializable("tfp_vae")
class MultivariateNormalDiag(_VectorLayer):
    """A Gaussian of diagonal covariance over vectors.

    Args:
        event_size: int, the length of the vector.
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
        self, event_size: int, min_scale: float = 1e-6, **kwargs: Any
    ) -> None:
        super().__init__(event_size, **kwargs)
        self.min_scale = check_min_scale(min_scale)

    @staticmethod
    def params_size(event_size: int) -> int:
        """`2 * event_size`."""
        return 2 * _size(event_size)

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        loc, raw_scale = ops.split(params, 2, axis=-1)
        return tfd.MultivariateNormalDiag(
            loc=loc, scale_diag=softplus(raw_scale) + self.min_scale
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "min_scale": self.min_scale}


@keras.saving.register_keras_serializable("tfp_vae")
class MultivariateNormalTriL(_VectorLayer):
    """A Gaussian of full covariance over vectors, by its Cholesky factor.

    Args:
        event_size: int, the length of the vector.
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
        event_size = _size(event_size)
        return event_size + event_size * (event_size + 1) // 2

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        fill = tfb.FillScaleTriL(diag_shift=ops.cast(1e-5, params.dtype))
        return tfd.MultivariateNormalTriL(
            loc=params[..., : self.event_size],
            scale_tril=fill.forward(params[..., self.event_size :]),
        )
