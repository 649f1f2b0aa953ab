"""The base of layers that return a bijector."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import check_positive_int
from tfp_vae.substrate import Tensor, tfb

__all__ = ["FlowTransform", "NetworkTransform", "value_of"]


def value_of(variable: keras.Variable) -> Tensor:
    """The value of a variable, as a tensor.

    On TensorFlow `ops.convert_to_tensor` returns the variable itself: the
    distribution would change during later training.

    Args:
        variable: a weight.

    Returns:
        A tensor.
    """
    return ops.cast(variable, variable.dtype)


class FlowTransform(keras.layers.Layer):
    """Returns a `tfb.Bijector` of vectors: one step of a `NormalizingFlow`.

    A transform of your own makes its weights in `build` and overrides
    `make_bijector`. A `NormalizingFlow` builds its transforms. Outside a flow,
    build one by `transform.build((event_size,))`, or with a context
    `transform.build((event_size,), (context_size,))`, and call `transform()` or
    `transform(context)`.

    Under a mixed precision policy weights and bijector are float32.

    Args:
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        context: `[B, context_size]`, or None.

    Returns:
        A `tfb.Bijector` of vectors; its forward direction leads from the base
        distribution to the data.

    Raises:
        ValueError: if it was not built, or was built for a context of another
            width.
    """

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = keras.config.dtype_policy().variable_dtype
        super().__init__(**kwargs)
        self.event_size = 0
        self.context_size = 0

    def build(
        self,
        input_shape: tuple[int, ...],
        context_shape: tuple[int | None, ...] | None = None,
    ) -> None:
        """Makes the weights.

        Args:
            input_shape: `(..., event_size)`.
            context_shape: `(..., context_size)`, or None.
        """
        self.event_size = int(input_shape[-1])
        if context_shape is not None:
            self.context_size = int(context_shape[-1] or 0)

    def make_bijector(self, context: Tensor | None) -> tfb.Bijector:
        """The bijector; each transform overrides this.

        Args:
            context: `[B, context_size]`, or None.

        Returns:
            A `tfb.Bijector` of vectors of `event_size`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must say which bijector it gives: override "
            "make_bijector(self, context)."
        )

    def __call__(self, context: Any = None, **kwargs: Any) -> tfb.Bijector:
        if not self.built:
            raise ValueError(
                "A transform must know the size of the vectors before it gives "
                "a bijector: put it into a NormalizingFlow, or call its "
                f"build((event_size,)). Received: {self.name}, not built."
            )
        return super().__call__(context, **kwargs)

    def call(self, context: Tensor | None = None) -> tfb.Bijector:
        received = 0 if context is None else context.shape[-1]
        if received != self.context_size:
            raise ValueError(
                f"{type(self).__name__} was built for a context of "
                f"{self.context_size} numbers. Received: {received}."
            )
        return self.make_bijector(context)


class NetworkTransform(FlowTransform):
    """A transform whose parameters a network gives; it starts as the identity.

    The last kernel and its bias start at zero, and so does the output of the
    network. A context is added before the first activation, through its own
    kernel.

    Args:
        hidden_units: sizes of the hidden layers.
        activation: of the hidden layers.
        kernel_initializer: of all kernels except the last.
        **kwargs: of `keras.layers.Layer`.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (64, 64),
        activation: Any = "relu",
        kernel_initializer: Any = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_units = tuple(
            check_positive_int("each of hidden_units", units)
            for units in hidden_units
        )
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self._masks: list[np.ndarray] | None = None

    def make_network(
        self,
        num_inputs: int,
        num_outputs: int,
        masks: list[np.ndarray] | None = None,
    ) -> None:
        """Makes the weights.

        Args:
            num_inputs: width of the input.
            num_outputs: width of the output.
            masks: one for each kernel, or None.
        """
        sizes = [num_inputs, *self.hidden_units, num_outputs]
        self._masks = masks
        self.kernels, self.biases = [], []
        for i, shape in enumerate(itertools.pairwise(sizes)):
            is_last = i == len(sizes) - 2
            initializer = "zeros" if is_last else self._initializer()
            self.kernels.append(
                self.add_weight(
                    shape=shape, initializer=initializer, name=f"kernel_{i}"
                )
            )
            self.biases.append(
                self.add_weight(
                    shape=shape[1:], initializer="zeros", name=f"bias_{i}"
                )
            )
        if self.context_size:
            # Not zero if the kernel after it is zero.
            initializer = self._initializer() if self.hidden_units else "zeros"
            self.context_kernel = self.add_weight(
                shape=(self.context_size, sizes[1]),
                initializer=initializer,
                name="context_kernel",
            )

    def _initializer(self) -> Any:
        """A new one for each kernel: one with a seed repeats its values."""
        return self.kernel_initializer.clone()

    def network(self, context: Tensor | None) -> dict[str, Any]:
        """The weights as tensors, with the masks applied.

        Args:
            context: `[B, context_size]`, or None.

        Returns:
            The arguments of `apply_network` by name, without x.
        """
        kernels = [value_of(kernel) for kernel in self.kernels]
        if self._masks is not None:
            kernels = [
                kernel * ops.cast(mask, kernel.dtype)
                for kernel, mask in zip(kernels, self._masks, strict=True)
            ]
        from_context = None
        if context is not None:
            from_context = ops.matmul(context, value_of(self.context_kernel))
        return {
            "kernels": tuple(kernels),
            "biases": tuple(map(value_of, self.biases)),
            "from_context": from_context,
            "activation": self.activation,
        }

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_units": self.hidden_units,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
        }
