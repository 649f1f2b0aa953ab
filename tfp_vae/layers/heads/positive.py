"""Families on the positive numbers, the same for every element of an event."""

from typing import Any

import keras

from tfp_vae.layers.heads.independent_layer import IndependentLayer, Mode
from tfp_vae.substrate import tfd

__all__ = ["IndependentGamma", "IndependentLogNormal"]


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentGamma(IndependentLayer):
    """Independent gamma variables: relative error as a likelihood.

    For positive data whose standard deviation is proportional to their mean:
    intensities, durations. The mean is concentration / rate; a number or
    `"shared"` for the concentration keeps the coefficient of variation,
    1 / sqrt(concentration), the same for all elements.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        concentration: the shape, by default `"learned"`; or `"shared"` or a
            number.
        rate: the inverse scale, in 1 / (units of the data), by default
            `"learned"`; or `"shared"` or a number.
        min_scale: the floor of both.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: raw concentrations, then raw rates, of those that are learned;
            flat or channels last.

    Returns:
        `tfd.Independent(tfd.Gamma)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    family = tfd.Gamma
    parameters = ("concentration", "rate")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        concentration: Mode = "learned",
        rate: Mode = "learned",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            concentration=concentration,
            rate=rate,
            **kwargs,
        )


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentLogNormal(IndependentLayer):
    """Independent log-normal variables: squared error of the logarithm.

    For positive data that span orders of magnitude.

    Args:
        event_shape: int or tuple of ints.
        convert_to_tensor_fn: see `DistributionLayer`.
        scale: the standard deviation of the logarithm, in nats; `"learned"`,
            `"shared"` or a number.
        min_scale: the floor of the scale.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: means of the logarithm, then raw scales if learned; flat or
            channels last.

    Returns:
        `tfd.Independent(tfd.LogNormal)` over `event_shape`.

    Raises:
        ValueError: see `IndependentLayer`.
    """

    family = tfd.LogNormal
    parameters = ("loc", "scale")

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        *,
        scale: Mode = "learned",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            event_shape,
            convert_to_tensor_fn,
            min_scale,
            scale=scale,
            **kwargs,
        )
