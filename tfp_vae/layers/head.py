"""The layer before a distribution and the distribution, in one layer."""

import math
from typing import Any

import keras

from tfp_vae.layers.distribution_layer import DistributionLayer
from tfp_vae.substrate import Tensor, tfd

__all__ = ["Head"]


@keras.saving.register_keras_serializable("tfp_vae")
class Head(keras.layers.Layer):
    """A `Dense` of the right width, or a convolution, and the distribution.

    ```python
    Head(IndependentNormal(6, scale="shared"))
    # is short for
    keras.layers.Dense(IndependentNormal.params_size(6, scale="shared"))
    IndependentNormal(6, scale="shared")
    ```

    If the input is a feature map `[B, height, width, channels]` and the event
    an image of that height and width, a convolution makes the parameters,
    channels last. Otherwise a `Dense` layer on the last axis makes them.

    Args:
        distribution: a distribution layer, such as `IndependentNormal(6)`.
        kernel_size: of the convolution.
        kernel_initializer: of the `Dense` layer or the convolution.
        bias_initializer: of the `Dense` layer or the convolution.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., features]`, or `[B, height, width, channels]`.

    Returns:
        What the distribution layer returns.

    Raises:
        TypeError: if `distribution` is not a distribution layer.
        ValueError: if the height and width are not those of the event.

    Example:
    ```python
    decoder = keras.Sequential([
        keras.Input((2,)),
        keras.layers.Dense(32, "relu"),
        Head(IndependentHuber(64, scale="shared")),
    ])
    ```
    """

    def __init__(
        self,
        distribution: DistributionLayer,
        kernel_size: int = 1,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        if not isinstance(distribution, DistributionLayer):
            raise TypeError(
                "A Head is made of a distribution layer, an object and not a "
                "class, such as IndependentNormal(6). Received: "
                f"{distribution!r}."
            )
        super().__init__(**kwargs)
        self.distribution = distribution
        self.kernel_size = kernel_size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.event_shape = distribution.event_shape
        self.parameters_layer: keras.layers.Layer | None = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        options = {
            "kernel_initializer": self.kernel_initializer,
            "bias_initializer": self.bias_initializer,
            "dtype": self.dtype_policy,
            "name": "parameters",
        }
        width = self.distribution.num_parameters
        layer: keras.layers.Layer
        if len(self.event_shape) == 3 and len(input_shape) == 4:
            space = self.event_shape[:-1]
            if tuple(input_shape[1:3]) != space:
                raise ValueError(
                    "A Head on a feature map [B, height, width, channels] has "
                    "a distribution over images of that height and width. "
                    f"Received: a map of shape {tuple(input_shape)}, an event "
                    f"of shape {self.event_shape}. Flatten the map, or bring "
                    "it to the size of the event."
                )
            layer = keras.layers.Conv2D(
                width // math.prod(space),
                self.kernel_size,
                padding="same",
                data_format="channels_last",
                **options,
            )
        else:
            layer = keras.layers.Dense(width, **options)
        layer.build(input_shape)
        self.parameters_layer = layer
        if not self.distribution.built:  # a loaded one is built already
            shape = layer.compute_output_shape(input_shape)
            self.distribution.build(shape)
            self.distribution.built = True

    def call(
        self, inputs: Tensor, training: bool | None = None
    ) -> tfd.Distribution:
        # Keras passes `training` on, since it is in the signature.
        assert self.parameters_layer is not None
        return self.distribution(self.parameters_layer(inputs))

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        assert self.parameters_layer is not None
        return self.distribution.compute_output_shape(
            self.parameters_layer.compute_output_shape(input_shape)
        )

    def compute_output_spec(
        self, inputs: Tensor, training: bool | None = None
    ) -> keras.KerasTensor:
        return keras.KerasTensor(
            self.compute_output_shape(tuple(inputs.shape)),
            dtype=self.distribution.compute_dtype,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "distribution": keras.saving.serialize_keras_object(
                self.distribution
            ),
            "kernel_size": self.kernel_size,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "bias_initializer": keras.initializers.serialize(
                self.bias_initializer
            ),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Head":
        config = dict(config)
        distribution = keras.saving.deserialize_keras_object(
            config.pop("distribution")
        )
        return cls(distribution, **config)
