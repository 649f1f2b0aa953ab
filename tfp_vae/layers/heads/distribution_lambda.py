"""A function as a distribution layer."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.serialization import (
    deserialize_function,
    serialize_function,
)
from tfp_vae.layers.distribution_layer import DistributionLayer
from tfp_vae.substrate import Tensor, tfd

__all__ = ["DistributionLambda"]


@keras.saving.register_keras_serializable("tfp_vae")
class DistributionLambda(DistributionLayer):
    """A layer made of any function from a tensor to a distribution.

    Args:
        make_distribution_fn: function of one tensor to a `tfd.Distribution`
            whose batch shape is the leading dimensions of the tensor. To be
            saved with a model it must be a named function registered by
            `keras.saving.register_keras_serializable`: a lambda would have to
            be saved as code.
        convert_to_tensor_fn: the tensor that other Keras layers take instead of
            the distribution; see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: a tensor, `[B, ...]`, or a list or a dict of such.

    Returns:
        What the function returns.

    Raises:
        TypeError: if the function does not return a distribution, or, at
            saving, if it is not registered.

    Example:
    ```python
    head = DistributionLambda(
        lambda t: tfd.Independent(tfd.Cauchy(t, 1.0), 1)
    )
    ```
    """

    def __init__(
        self,
        make_distribution_fn: Callable[[Tensor], tfd.Distribution],
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        # The function decides the event shape, which is known after a call.
        super().__init__((), convert_to_tensor_fn, **kwargs)
        self.make_distribution_fn = make_distribution_fn

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        distribution = self.make_distribution_fn(params)
        if not isinstance(distribution, tfd.Distribution):
            raise TypeError(
                "The function of a DistributionLambda returns a "
                "tfp.distributions object of the running backend. Received: "
                f"{type(distribution).__name__}."
            )
        return distribution

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return self._output_shape(keras.KerasTensor(input_shape))

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(
            self._output_shape(inputs), dtype=self.compute_dtype
        )

    def _output_shape(self, inputs: Any) -> tuple[int | None, ...]:
        """What the function makes of a batch of two tells the shapes."""

        def example_of(tensor: keras.KerasTensor) -> Tensor:
            known = [2 if size is None else size for size in tensor.shape]
            return ops.zeros(known, self.compute_dtype)

        example = self.make_distribution(
            keras.tree.map_structure(example_of, inputs)
        )
        first = max(
            (tuple(tensor.shape) for tensor in keras.tree.flatten(inputs)),
            key=len,
        )
        shape = (*example.batch_shape, *example.event_shape)
        # Dimensions of the batch that are not known stay so.
        return (
            *(
                None if known is None else size
                for known, size in zip(first, example.batch_shape, strict=False)
            ),
            *shape[min(len(first), len(example.batch_shape)) :],
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["event_shape"]
        return {
            **config,
            "make_distribution_fn": serialize_function(
                self.make_distribution_fn, "A DistributionLambda"
            ),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistributionLambda":
        config = dict(config)
        function = config.pop("make_distribution_fn")
        if not callable(function):
            function = deserialize_function(function, cls.__name__)
        return cls(function, **config)
