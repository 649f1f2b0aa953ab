"""Convolutions whose kernel and bias are drawn from posteriors."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.layers.bayesian.functions import exact_kl
from tfp_vae.layers.bayesian.surrogates import (
    MEAN_FIELD,
    POINT,
    default_multivariate_normal_fn,
)
from tfp_vae.layers.bayesian.uncertain_layer import (
    Flipout,
    Reparameterization,
    UncertainLayer,
)
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "Convolution1DFlipout",
    "Convolution1DReparameterization",
    "Convolution2DFlipout",
    "Convolution2DReparameterization",
    "Convolution3DFlipout",
    "Convolution3DReparameterization",
]


class _UncertainConvolution(UncertainLayer):
    """The common part; a subclass says how many dimensions it moves in."""

    rank: int

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str = "channels_last",
        dilation_rate: Any = 1,
        activation: Any = None,
        activity_regularizer: Any = None,
        kernel_posterior_fn: Callable[..., tfd.Distribution] = MEAN_FIELD,
        kernel_posterior_tensor_fn: Any = tfd.Distribution.sample,
        kernel_prior_fn: Callable[..., tfd.Distribution]
        | None = default_multivariate_normal_fn,
        kernel_divergence_fn: Callable[..., Tensor] | None = exact_kl,
        bias_posterior_fn: Callable[..., tfd.Distribution] | None = POINT,
        bias_posterior_tensor_fn: Any = tfd.Distribution.sample,
        bias_prior_fn: Callable[..., tfd.Distribution] | None = None,
        bias_divergence_fn: Callable[..., Tensor] | None = exact_kl,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            activation,
            activity_regularizer,
            {
                "kernel_posterior_fn": kernel_posterior_fn,
                "kernel_posterior_tensor_fn": kernel_posterior_tensor_fn,
                "kernel_prior_fn": kernel_prior_fn,
                "kernel_divergence_fn": kernel_divergence_fn,
                "bias_posterior_fn": bias_posterior_fn,
                "bias_posterior_tensor_fn": bias_posterior_tensor_fn,
                "bias_prior_fn": bias_prior_fn,
                "bias_divergence_fn": bias_divergence_fn,
            },
            seed,
            **kwargs,
        )
        self.filters = check_positive_int("filters", filters)
        self.kernel_size = self._sizes("kernel_size", kernel_size)
        self.strides = self._sizes("strides", strides)
        self.dilation_rate = self._sizes("dilation_rate", dilation_rate)
        self.padding = _one_of("padding", padding, ("valid", "same"))
        self.data_format = _one_of(
            "data_format", data_format, ("channels_last", "channels_first")
        )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "A convolution is either strided or dilated. Received: "
                f"strides={self.strides}, dilation_rate={self.dilation_rate}."
            )
        self.input_spec = keras.layers.InputSpec(ndim=self.rank + 2)

    def _sizes(self, name: str, value: Any) -> tuple[int, ...]:
        """One int for each dimension."""
        sizes = (value,) * self.rank if isinstance(value, int) else tuple(value)
        if len(sizes) != self.rank:
            raise ValueError(
                f"{name} is an int, or {self.rank} of them. Received: "
                f"{name}={value!r}."
            )
        return tuple(check_positive_int(f"each of {name}", n) for n in sizes)

    @property
    def _channel_axis(self) -> int:
        return -1 if self.data_format == "channels_last" else 1

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        axis = self._channel_axis
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(
                f"The number of channels of the inputs of a "
                f"{type(self).__name__} is known. Received: inputs of shape "
                f"{tuple(input_shape)}."
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=self.rank + 2, axes={axis: channels}
        )
        self.make_weights(
            (*self.kernel_size, channels, self.filters), (self.filters,)
        )

    def linear(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            data_format=self.data_format,
            dilation_rate=self.dilation_rate,
        )

    def _over_space(self, channels: Tensor) -> Tensor:
        """Adds the dimensions of space to `[..., channels]`."""
        for _ in range(self.rank):
            last = len(channels.shape)
            channels = ops.expand_dims(
                channels, last - 1 if self._channel_axis == -1 else last
            )
        return channels

    def add_bias(self, outputs: Tensor, bias: Tensor) -> Tensor:
        return outputs + self._over_space(bias)

    def shapes_of_signs(
        self, shape: tuple[Any, ...]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Of the signs of the inputs and of the outputs, one a channel.

        Args:
            shape: of the inputs.

        Returns:
            Two shapes.
        """
        ones = (1,) * self.rank
        batch, channels = shape[0], shape[self._channel_axis]
        if self._channel_axis == -1:
            return (batch, *ones, channels), (batch, *ones, self.filters)
        return (batch, channels, *ones), (batch, self.filters, *ones)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        channels = input_shape[self._channel_axis]
        kernel = (*self.kernel_size, channels, self.filters)
        outputs = self.linear(
            keras.KerasTensor(input_shape), keras.KerasTensor(kernel)
        )
        return tuple(outputs.shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
        }


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value.lower() not in choices:
        raise ValueError(
            f"{name} is one of {', '.join(map(repr, choices))}. Received: "
            f"{name}={value!r}."
        )
    return value.lower()


@keras.saving.register_keras_serializable("tfp_vae")
class Convolution1DReparameterization(
    Reparameterization, _UncertainConvolution
):
    """A convolution over one dimension with an uncertain kernel.

    One kernel is drawn for the batch, as in `DenseReparameterization`. The
    layer computes what `keras.layers.Conv1D` does.

    Args:
        filters: the number of channels of the outputs.
        kernel_size: int, or one for each dimension.
        strides: likewise.
        padding: `"valid"` or `"same"`, in letters of any case.
        data_format: `"channels_last"` or `"channels_first"`. The setting of
            Keras is not asked, as in `tfp.layers`.
        dilation_rate: int, or one for each dimension.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        kernel_posterior_fn: see `DenseReparameterization`, as all that follow.
        kernel_posterior_tensor_fn: likewise.
        kernel_prior_fn: likewise.
        kernel_divergence_fn: likewise.
        bias_posterior_fn: likewise.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, length, channels]`, or with the channels first.

    Returns:
        `[B, new length, filters]`, or with the channels first.

    Raises:
        TypeError, ValueError: see `DenseReparameterization`; or for sizes that
            do not fit.
    """

    rank = 1


@keras.saving.register_keras_serializable("tfp_vae")
class Convolution2DReparameterization(
    Reparameterization, _UncertainConvolution
):
    """A convolution over two dimensions with an uncertain kernel.

    Args:
        filters: the number of channels of the outputs.
        kernel_size: int, or one for each dimension.
        strides: likewise.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: int, or one for each dimension.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        kernel_posterior_fn: see `DenseReparameterization`, as all that follow.
        kernel_posterior_tensor_fn: likewise.
        kernel_prior_fn: likewise.
        kernel_divergence_fn: likewise.
        bias_posterior_fn: likewise.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, ..., channels]`, or with the channels first.

    Returns:
        Of the same layout, with `filters` channels.

    Raises:
        TypeError, ValueError: see `Convolution1DReparameterization`.
    """

    rank = 2


@keras.saving.register_keras_serializable("tfp_vae")
class Convolution3DReparameterization(
    Reparameterization, _UncertainConvolution
):
    """A convolution over three dimensions with an uncertain kernel.

    Args:
        filters: the number of channels of the outputs.
        kernel_size: int, or one for each dimension.
        strides: likewise.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: int, or one for each dimension.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        kernel_posterior_fn: see `DenseReparameterization`, as all that follow.
        kernel_posterior_tensor_fn: likewise.
        kernel_prior_fn: likewise.
        kernel_divergence_fn: likewise.
        bias_posterior_fn: likewise.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, ..., channels]`, or with the channels first.

    Returns:
        Of the same layout, with `filters` channels.

    Raises:
        TypeError, ValueError: see `Convolution1DReparameterization`.
    """

    rank = 3


@keras.saving.register_keras_serializable("tfp_vae")
class Convolution1DFlipout(Flipout, _UncertainConvolution):
    """A convolution over one dimension with an uncertain kernel, by flipout.

    One perturbation of the kernel is drawn for the batch, and signs for each
    example and channel, as in `DenseFlipout`.

    Args:
        filters: the number of channels of the outputs.
        kernel_size: int, or one for each dimension.
        strides: likewise.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: int, or one for each dimension.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        kernel_posterior_fn: see `DenseReparameterization`, as all that follow.
        kernel_posterior_tensor_fn: likewise.
        kernel_prior_fn: likewise.
        kernel_divergence_fn: likewise.
        bias_posterior_fn: likewise.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, length, channels]`, or with the channels first.

    Returns:
        Of the same layout, with `filters` channels.

    Raises:
        TypeError: for a posterior that is not `Independent(Normal)`.
        ValueError: see `Convolution1DReparameterization`.
    """

    rank = 1


@keras.saving.register_keras_serializable("tfp_vae")
class Convolution2DFlipout(Flipout, _UncertainConvolution):
    """A convolution over two dimensions with an uncertain kernel, by flipout.

    Args:
        filters: the number of channels of the outputs.
        kernel_size: int, or one for each dimension.
        strides: likewise.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: int, or one for each dimension.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        kernel_posterior_fn: see `DenseReparameterization`, as all that follow.
        kernel_posterior_tensor_fn: likewise.
        kernel_prior_fn: likewise.
        kernel_divergence_fn: likewise.
        bias_posterior_fn: likewise.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, ..., channels]`, or with the channels first.

    Returns:
        Of the same layout, with `filters` channels.

    Raises:
        TypeError, ValueError: see `Convolution1DFlipout`.
    """

    rank = 2


@keras.saving.register_keras_serializable("tfp_vae")
class Convolution3DFlipout(Flipout, _UncertainConvolution):
    """A convolution over three dimensions with an uncertain kernel, by flipout.

    Args:
        filters: the number of channels of the outputs.
        kernel_size: int, or one for each dimension.
        strides: likewise.
        padding: `"valid"` or `"same"`.
        data_format: `"channels_last"` or `"channels_first"`.
        dilation_rate: int, or one for each dimension.
        activation: a function, its name, or None.
        activity_regularizer: of the outputs, as in Keras.
        kernel_posterior_fn: see `DenseReparameterization`, as all that follow.
        kernel_posterior_tensor_fn: likewise.
        kernel_prior_fn: likewise.
        kernel_divergence_fn: likewise.
        bias_posterior_fn: likewise.
        bias_posterior_tensor_fn: likewise.
        bias_prior_fn: likewise.
        bias_divergence_fn: likewise.
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[B, ..., channels]`, or with the channels first.

    Returns:
        Of the same layout, with `filters` channels.

    Raises:
        TypeError, ValueError: see `Convolution1DFlipout`.
    """

    rank = 3
