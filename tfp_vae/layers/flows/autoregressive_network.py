"""The autoregressive layers of TFP, for Keras 3."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_positive_int, vector_size
from tfp_vae.layers.flows.autoregressive import MaskedAutoregressiveBijector
from tfp_vae.layers.flows.flow import Flow
from tfp_vae.layers.flows.masks import made_masks
from tfp_vae.layers.flows.network import apply_network
from tfp_vae.layers.flows.transform import value_of
from tfp_vae.layers.sample import OnDistribution
from tfp_vae.substrate import Tensor, tfd

__all__ = ["AutoregressiveNetwork", "AutoregressiveTransform"]


@keras.saving.register_keras_serializable("tfp_vae")
class AutoregressiveNetwork(keras.layers.Layer):
    """MADE: a dense network whose output i depends on the inputs before i.

    It replaces `tfb.AutoregressiveNetwork`, which is a Keras 2 layer. For a
    flow take `MaskedAutoregressive` or `InverseAutoregressive`, which start as
    the identity and stay within bounds.

    Args:
        params: outputs for each input.
        event_shape: int or a tuple of one int, by default that of the inputs.
        conditional: whether it is also called with a `conditional_input`, on
            which all outputs may depend.
        conditional_event_shape: int or a tuple of one int, the width of the
            conditional input; needed if `conditional`.
        hidden_units: sizes of the hidden layers; none by default.
        input_order: `"left-to-right"`, `"right-to-left"`, or the place of each
            input in the order, 1 to L.
        activation: of the hidden layers.
        use_bias: whether layers have biases.
        kernel_initializer: of all kernels.
        bias_initializer: of the biases.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., L]`.
        conditional_input: `[..., C]`, or None.

    Returns:
        `[..., L, params]`.

    Raises:
        ValueError: for an unknown order, inputs of the wrong width,
            or a conditional input that is missing or not expected.

    Reference:
        Germain, Gregor, Murray, Larochelle. MADE: masked autoencoder for
        distribution estimation. ICML 2015. https://arxiv.org/abs/1502.03509
    """

    def __init__(
        self,
        params: int,
        event_shape: Any = None,
        conditional: bool = False,
        conditional_event_shape: Any = None,
        hidden_units: Sequence[int] | None = None,
        input_order: str | Sequence[int] = "left-to-right",
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.params = check_positive_int("params", params)
        self.event_shape = event_shape
        if event_shape is not None:
            self.event_shape = vector_size(event_shape)
        if conditional != (conditional_event_shape is not None):
            raise ValueError(
                "A conditional network needs the width of the conditional "
                "input, and any other has none. Received: "
                f"conditional={conditional}, "
                f"conditional_event_shape={conditional_event_shape!r}."
            )
        self.conditional = conditional
        self.conditional_event_shape = (
            vector_size(conditional_event_shape) if conditional else None
        )
        self.hidden_units = [
            check_positive_int("each of hidden_units", units)
            for units in hidden_units or ()
        ]
        if not isinstance(input_order, str):
            input_order = [int(place) for place in input_order]
        self.input_order = input_order
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def order(self, size: int) -> list[int]:
        """The inputs, first to last.

        Args:
            size: how many there are.

        Returns:
            The numbers 0 to size - 1, in this order.

        Raises:
            ValueError: for an unknown order.
        """
        given = self.input_order
        if given == "left-to-right":
            return list(range(size))
        if given == "right-to-left":
            return list(range(size))[::-1]
        if isinstance(given, str) or sorted(given) != list(range(1, size + 1)):
            raise ValueError(
                'input_order is "left-to-right", "right-to-left", or the place '
                f"of each of the {size} inputs, from 1 on. Received: "
                f"input_order={given!r}."
            )
        return sorted(range(size), key=lambda i: given[i])

    def build(self, inputs_shape: tuple[int | None, ...]) -> None:
        size = int(inputs_shape[-1] or 0)
        if self.event_shape not in (None, size):
            raise ValueError(
                f"The network was made for vectors of {self.event_shape}. "
                f"Received: vectors of {size}."
            )
        self._masks = made_masks(
            self.order(size),
            self.hidden_units,
            self.params,
            self.conditional,
        )
        self._kernels, self._biases = [], []
        for i, mask in enumerate(self._masks):
            self._kernels.append(
                self.add_weight(
                    shape=mask.shape,
                    initializer=self.kernel_initializer.clone(),
                    name=f"kernel_{i}",
                )
            )
            if self.use_bias:
                self._biases.append(
                    self.add_weight(
                        shape=mask.shape[1:],
                        initializer=self.bias_initializer,
                        name=f"bias_{i}",
                    )
                )
        if self.conditional:
            self._conditional_kernel = self.add_weight(
                shape=(self.conditional_event_shape, self._masks[0].shape[1]),
                initializer=self.kernel_initializer.clone(),
                name="conditional_kernel",
            )

    def tensors(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """The masked kernels and the biases.

        Returns:
            `[inputs, outputs]` each, and `[outputs]` each.
        """
        kernels = tuple(
            value_of(kernel) * ops.cast(mask, kernel.dtype)
            for kernel, mask in zip(self._kernels, self._masks, strict=True)
        )
        if not self.use_bias:
            return kernels, tuple(ops.zeros_like(k[0]) for k in kernels)
        return kernels, tuple(map(value_of, self._biases))

    def call(
        self, inputs: Tensor, conditional_input: Tensor | None = None
    ) -> Tensor:
        if self.conditional != (conditional_input is not None):
            raise ValueError(
                "A conditional network is called with conditional_input=..., "
                "and any other without. Received: "
                f"conditional={self.conditional}, "
                f"conditional_input={conditional_input!r}."
            )
        from_context = None
        if conditional_input is not None:
            from_context = ops.matmul(
                conditional_input, self._conditional_kernel
            )
        outputs = apply_network(
            inputs, *self.tensors(), from_context, self.activation
        )
        shape = (*ops.shape(inputs)[:-1], self.params, inputs.shape[-1])
        return ops.swapaxes(ops.reshape(outputs, shape), -1, -2)

    def compute_output_shape(
        self, inputs_shape: tuple[int | None, ...], **kwargs: Any
    ) -> tuple[int | None, ...]:
        return (*inputs_shape, self.params)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "params": self.params,
            "event_shape": self.event_shape,
            "conditional": self.conditional,
            "conditional_event_shape": self.conditional_event_shape,
            "hidden_units": self.hidden_units,
            "input_order": self.input_order,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "bias_initializer": keras.initializers.serialize(
                self.bias_initializer
            ),
        }


@keras.saving.register_keras_serializable("tfp_vae")
class AutoregressiveTransform(OnDistribution):
    """A distribution passed through a masked autoregressive flow.

    ```none
    m, s = made(y)        y[i] = x[i] exp(s[i]) + m[i],   x ~ distribution
    ```

    It replaces `tfp.layers.AutoregressiveTransform`; `NormalizingFlow` does the
    same with more kinds of transforms.

    Args:
        made: an `AutoregressiveNetwork` of two parameters, not conditional.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        distribution: over vectors, or in a symbolic call the output of a
            distribution layer.

    Returns:
        A `tfd.TransformedDistribution`.

    Raises:
        TypeError: if given a tensor.
        ValueError: if `made` gives a number of parameters other than two.

    Reference:
        Papamakarios, Pavlakou, Murray. Masked autoregressive flow for density
        estimation. NeurIPS 2017. https://arxiv.org/abs/1705.07057
    """

    task = "transforms"

    def __init__(self, made: AutoregressiveNetwork, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if made.params != 2 or made.conditional:
            raise ValueError(
                "The network gives a shift and a log scale for each input, and "
                f"takes no other input. Received: params={made.params}, "
                f"conditional={made.conditional}."
            )
        self.made = made

    def __call__(self, distribution: Any, **kwargs: Any) -> Any:
        shape: Any = ()
        if isinstance(distribution, (tfd.Distribution, keras.KerasTensor)):
            symbolic = isinstance(distribution, keras.KerasTensor)
            shape = distribution.shape if symbolic else distribution.event_shape
        # Keras cannot build a layer from the shape of a distribution.
        if not self.made.built and len(shape):
            self.made.build((None, int(shape[-1])))
        return super().__call__(distribution, **kwargs)

    def call(self, distribution: tfd.Distribution) -> tfd.Distribution:
        kernels, biases = self.made.tensors()
        bijector = MaskedAutoregressiveBijector(
            kernels,
            biases,
            None,
            self.made.activation,
            tuple(self.made.order(int(distribution.event_shape[-1]))),
            is_bounded=False,
        )
        return Flow(distribution, bijector)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "made": keras.saving.serialize_keras_object(self.made),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AutoregressiveTransform":
        config = dict(config)
        made = keras.saving.deserialize_keras_object(config.pop("made"))
        return cls(made, **config)
