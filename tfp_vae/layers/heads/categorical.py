"""Layers for data that are one of several classes."""

import math
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import canonical_event_shape, vector_size
from tfp_vae.layers.distribution_layer import DistributionLayer
from tfp_vae.layers.heads.vector_layer import VectorLayer
from tfp_vae.substrate import Tensor, tfd

__all__ = ["IndependentCategorical", "OneHotCategorical"]


@keras.saving.register_keras_serializable("tfp_vae")
class OneHotCategorical(VectorLayer):
    """One of several classes, as a vector with a single 1.

    Args:
        event_size: int, the number of classes.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: logits, `[..., event_size]`.

    Returns:
        `tfd.OneHotCategorical`, event shape `[event_size]`, of float dtype.

    Raises:
        ValueError: if `event_size` is not a positive int, or the inputs are of
            the wrong width.
    """

    parameters = ("logits",)

    @staticmethod
    def params_size(event_size: int) -> int:
        """`event_size`."""
        return vector_size(event_size)

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        return tfd.OneHotCategorical(logits=params, dtype=params.dtype)


@keras.saving.register_keras_serializable("tfp_vae")
class IndependentCategorical(DistributionLayer):
    """One of several classes for each element, as its number.

    For labels 0, 1, ..., num_classes - 1: maps of classes, tokens, pixels of
    few levels. Take the `mode`: a mean of class numbers says little, and not
    every version of TFP has it.

    Args:
        event_shape: int or tuple of ints.
        num_classes: int, the number of classes of each element.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: logits, `[..., *event_shape, num_classes]`, or the same with the
            last two or all of these dimensions merged into one; the classes of
            an element are adjacent.

    Returns:
        `tfd.Independent(tfd.Categorical)` over `event_shape`, of dtype int32;
        `log_prob` takes whole numbers of any dtype.

    Raises:
        ValueError: if `num_classes` is not a positive int, or the inputs are of
            the wrong width.
    """

    parameters = ("logits",)

    def __init__(
        self,
        event_shape: Any,
        num_classes: int,
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_shape, convert_to_tensor_fn, **kwargs)
        self.num_classes = vector_size(num_classes)

    @staticmethod
    def params_size(event_shape: Any, num_classes: int) -> int:
        """The number of elements times `num_classes`."""
        return math.prod(canonical_event_shape(event_shape)) * vector_size(
            num_classes
        )

    def _batch_dims(self, input_shape: tuple[int | None, ...]) -> int:
        """How many dimensions come before the logits."""
        event = self.event_shape
        layouts = [
            (*event, self.num_classes),
            (*event[:-1], math.prod(event[-1:]) * self.num_classes),
            (math.prod(event) * self.num_classes,),
        ]
        found = [
            len(input_shape) - len(layout)
            for layout in layouts
            if tuple(input_shape[-len(layout) :]) == layout
        ]
        if found:
            # A batch of one looks like an event of one element: then the shape
            # with a batch is the right one.
            return next((batch for batch in found if batch), 0)
        raise ValueError(
            f"IndependentCategorical({event}, {self.num_classes}) takes "
            f"params_size={layouts[-1][0]} logits on its last axis, or "
            f"{layouts[0]}. Received: inputs of shape {tuple(input_shape)}. "
            "End the layer before in IndependentCategorical.params_size(...) "
            "units."
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._batch_dims(input_shape)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        batch = self._batch_dims(input_shape)
        return (*input_shape[:batch], *self.event_shape)

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        # With a float dtype TFP would not check float outcomes.
        return keras.KerasTensor(
            self.compute_output_shape(tuple(inputs.shape)), dtype="int32"
        )

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        batch = ops.shape(params)[: self._batch_dims(tuple(params.shape))]
        logits = ops.reshape(
            params, (*batch, *self.event_shape, self.num_classes)
        )
        return tfd.Independent(
            tfd.Categorical(
                logits=logits,
                # Otherwise a class that does not exist is NaN, or an error of
                # the device.
                force_probs_to_zero_outside_support=True,
            ),
            reinterpreted_batch_ndims=len(self.event_shape),
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes}
