"""A layer that is one weight, whatever its input."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import canonical_event_shape
from tfp_vae.substrate import Tensor

__all__ = ["BlockwiseInitializer", "VariableLayer"]


@keras.saving.register_keras_serializable("tfp_vae")
class VariableLayer(keras.layers.Layer):
    """Returns a trainable weight, whatever its input.

    Before a distribution layer it makes a distribution that trains and depends
    on nothing: a posterior or a prior of weights, or of a latent space.

    Args:
        shape: int or tuple of ints, of the weight.
        dtype: of the weight, by default that of Keras' variables.
        activation: a function of the weight, its name, or None.
        initializer: of the weight.
        regularizer: of the weight, or None.
        constraint: of the weight, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: anything, None too; not used.

    Returns:
        A tensor of the shape, without a dimension for the batch.

    Raises:
        ValueError: if `shape` is not a positive int or a tuple of them.

    Example:
    ```python
    prior = keras.Sequential([
        VariableLayer(MultivariateNormalTriL.params_size(2)),
        MultivariateNormalTriL(2),
    ])
    ```
    """

    def __init__(
        self,
        shape: Any,
        dtype: Any = None,
        activation: Any = None,
        initializer: Any = "zeros",
        regularizer: Any = None,
        constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if dtype is None:
            dtype = keras.config.dtype_policy().variable_dtype
        if not isinstance(dtype, (dict, keras.dtype_policies.DTypePolicy)):
            dtype = keras.backend.standardize_dtype(dtype)
        super().__init__(dtype=dtype, **kwargs)
        if not isinstance(shape, int):
            shape = tuple(int(n) for n in np.atleast_1d(np.asarray(shape)))
        self.shape = canonical_event_shape(shape)
        self.activation = keras.activations.get(activation)
        self.initializer = keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)
        self.constant = self.add_weight(
            shape=self.shape,
            initializer=self.initializer,
            regularizer=self.regularizer,
            constraint=self.constraint,
            name="constant",
        )
        self.built = True

    def __call__(self, inputs: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(inputs, (int, float)):
            # `layer(0.0)` is how those of `tfp.layers` are called.
            inputs = None
        return super().__call__(inputs, **kwargs)

    def call(self, inputs: Any = None) -> Tensor:
        value = ops.cast(self.constant, self.constant.dtype)
        return value if self.activation is None else self.activation(value)

    def compute_output_shape(self, input_shape: Any = None) -> tuple[int, ...]:
        return self.shape

    def compute_output_spec(self, inputs: Any = None) -> keras.KerasTensor:
        return keras.KerasTensor(self.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "shape": self.shape,
            "activation": keras.activations.serialize(self.activation),
            "initializer": keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer)
            if self.regularizer
            else None,
            "constraint": keras.constraints.serialize(self.constraint)
            if self.constraint
            else None,
        }


@keras.saving.register_keras_serializable("tfp_vae")
class BlockwiseInitializer(keras.initializers.Initializer):
    """Several initializers side by side, along the last axis.

    Args:
        initializers: Keras' initializers, or their names.
        sizes: how many elements of the last axis each is for.
        validate_args: of no effect, since sizes are always checked.

    Call arguments:
        shape: whose last dimension is the sum of the sizes.
        dtype: of the weight.

    Returns:
        A tensor.

    Raises:
        ValueError: if the sizes do not fit.

    Example:
    ```python
    # Locations at 0, raw scales at 1 after a softplus.
    BlockwiseInitializer(
        ["zeros", keras.initializers.Constant(np.log(np.expm1(1.0)))], [4, 4]
    )
    ```
    """

    def __init__(
        self, initializers: Any, sizes: Any, validate_args: bool = False
    ) -> None:
        self.initializers = [keras.initializers.get(i) for i in initializers]
        self.sizes = [int(size) for size in sizes]
        self.validate_args = validate_args
        if len(self.sizes) != len(self.initializers):
            raise ValueError(
                "There is one size for each initializer. Received: "
                f"{len(self.initializers)} initializers, sizes={self.sizes}."
            )

    def __call__(self, shape: Any, dtype: Any = None) -> Tensor:
        *before, last = tuple(shape)
        if sum(self.sizes) != last:
            raise ValueError(
                "The last dimension of the weight is the sum of the sizes. "
                f"Received: shape={tuple(shape)}, sizes={self.sizes}."
            )
        dtype = keras.backend.standardize_dtype(dtype)
        return ops.concatenate(
            [
                ops.cast(initializer((*before, size), dtype=dtype), dtype)
                for initializer, size in zip(
                    self.initializers, self.sizes, strict=True
                )
            ],
            axis=-1,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "initializers": [
                keras.initializers.serialize(i) for i in self.initializers
            ],
            "sizes": self.sizes,
            "validate_args": self.validate_args,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BlockwiseInitializer":
        return cls(**config)
