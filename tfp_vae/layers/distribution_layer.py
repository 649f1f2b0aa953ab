"""The base of every layer that returns a distribution."""

import inspect
from typing import Any

import keras

from tfp_vae.arguments import canonical_event_shape
from tfp_vae.layers.sample import (
    canonical_conversion,
    convertible,
    serialize_conversion,
)
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "DistributionLayer",
    "check_no_variables",
    "check_width",
]


class DistributionLayer(keras.layers.Layer):
    """Turns a tensor of parameters into a `tfd.Distribution`.

    A layer of your own needs two things: `params_size`, the number of
    parameters it takes for an event shape, and `make_distribution`, which turns
    a tensor `[..., params_size]` into a distribution with batch shape `[...]`.
    It may make weights in `build`. For a layer that treats all elements alike,
    `IndependentLayer` does nearly all of this.

    The layer works eagerly, under `tf.function` and `jax.jit`, and at the end
    or in the middle of `keras.Sequential` and functional models: in a symbolic
    call its output is a `KerasTensor` of shape `[None, *event_shape]`; on data
    it is the distribution itself. Turn it into a tensor by `Sample`, or by
    `convert_to_tensor_fn`: then other Keras layers and models take the tensor
    that this makes of the distribution. Under a mixed precision policy the
    distribution is float32.

    An `activity_regularizer` is called once, with the distribution, and its
    result is added to the loss.

    Args:
        event_shape: int or tuple of ints, the shape of one draw.
        convert_to_tensor_fn: `"sample"`, `"mean"`, `"mode"`, `"stddev"`,
            `"variance"`, the method itself as in `tfd.Distribution.mean`, or a
            function of the distribution (and optionally of a `seed`) to a
            tensor, `batch_shape + event_shape`. With None other layers refuse
            the distribution. To be saved, a function must be registered by
            `keras.saving.register_keras_serializable`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., params_size]`, in the layout that the layer documents.

    Returns:
        A `tfd.Distribution` over `event_shape`.

    Raises:
        ValueError: if `event_shape` is not a positive int or a tuple of them,
            if `convert_to_tensor_fn` is not one of the above, or the inputs are
            of the wrong width.

    Example:
    ```python
    @keras.saving.register_keras_serializable()
    class Dirichlet(DistributionLayer):
        @staticmethod
        def params_size(event_shape):
            return event_shape

        def make_distribution(self, params):
            return tfd.Dirichlet(keras.ops.softplus(params) + 1e-3)
    ```
    """

    def __init__(
        self, event_shape: Any, convert_to_tensor_fn: Any = None, **kwargs: Any
    ) -> None:
        if kwargs.get("dtype") is None:
            # The distribution keeps the precision of the variables: a
            # likelihood in half precision would lose the sum over the event.
            kwargs["dtype"] = keras.config.dtype_policy().variable_dtype
        super().__init__(**kwargs)
        self.event_shape = canonical_event_shape(event_shape)
        self.convert_to_tensor_fn = canonical_conversion(convert_to_tensor_fn)
        if self.convert_to_tensor_fn is not None:
            self._conversion_seed = keras.random.SeedGenerator()
        # Keras finds no variables inside a regularizer.
        self._regularizer_state = getattr(
            self.activity_regularizer, "tracked_state", ()
        )

    @property
    def num_parameters(self) -> int:
        """How many parameters this layer takes, flat, for one example.

        This is `params_size` of the arguments of the layer, which it keeps as
        attributes of the same names.

        Raises:
            TypeError: if there is no `params_size`, or an argument of it is not
                an attribute.
        """
        arguments: dict[str, Any] = {}
        owner = type(self).__name__
        if not hasattr(self, "params_size"):
            raise TypeError(
                f"{owner} does not say how many parameters it takes. Give it a "
                "static method params_size."
            )
        signature = inspect.signature(self.params_size)
        for name, parameter in signature.parameters.items():
            if hasattr(self, name):
                arguments[name] = getattr(self, name)
            elif parameter.default is parameter.empty:
                raise TypeError(
                    "A distribution layer keeps the arguments of its "
                    "params_size as attributes of the same names. Received: "
                    f"{owner} without `{name}`."
                )
        return self.params_size(**arguments)

    def width_of_other_modes(self, input_shape: tuple[int | None, ...]) -> str:
        """Which arguments were forgotten, if the width shows it.

        Args:
            input_shape: the shape of an input of the wrong width.

        Returns:
            The end of a message, or an empty string.
        """
        return ""

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        """The distribution with these parameters; each layer overrides this.

        Args:
            params: `[..., params_size]`.

        Returns:
            A distribution of batch shape `[...]` over `event_shape`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must say how parameters become a "
            "distribution: override make_distribution(self, params)."
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Here and not in `call`, since a subclass may wrap what `call` returns.
        return self._convertible(super().__call__(*args, **kwargs))

    def _convertible(self, output: Any) -> Any:
        """A distribution as a tensor as well, if that was asked for."""
        if self.convert_to_tensor_fn is None or not isinstance(
            output, tfd.Distribution
        ):
            return output
        return convertible(
            output, self.convert_to_tensor_fn, self._conversion_seed
        )

    def call(self, inputs: Tensor) -> tfd.Distribution:
        return self.regularized(self.make_distribution(inputs))

    def regularized(self, distribution: tfd.Distribution) -> tfd.Distribution:
        """Adds the regularizer of a distribution to the loss.

        Args:
            distribution: what `call` will return.

        Returns:
            The same.
        """
        if self.activity_regularizer is not None:
            # Keras applies it to tensors only, and silently skips a
            # distribution.
            self.add_loss(
                self.activity_regularizer(self._convertible(distribution))
            )
        return distribution

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (*input_shape[:-1], *self.event_shape)

    def compute_output_spec(self, inputs: Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(
            self.compute_output_shape(tuple(inputs.shape)),
            dtype=self.compute_dtype,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "event_shape": self.event_shape,
            "convert_to_tensor_fn": serialize_conversion(
                self.convert_to_tensor_fn, "A convert_to_tensor_fn"
            ),
        }


def check_width(
    layer: DistributionLayer,
    input_shape: tuple[int | None, ...],
    expected: int,
) -> None:
    """Refuses a tensor of parameters of the wrong width.

    Args:
        layer: the layer, for the message.
        input_shape: the shape of its input.
        expected: how wide the last dimension must be.

    Raises:
        ValueError: if the two differ.
    """
    if input_shape[-1] != expected:
        name = type(layer).__name__
        way_out = layer.width_of_other_modes(input_shape) or (
            f". End the layer before in {name}.params_size(...) units."
        )
        raise ValueError(
            f"{name}({layer.event_shape}) takes params_size={expected} "
            f"parameters on its last axis. Received: {input_shape[-1]}{way_out}"
        )


def check_no_variables(distribution: tfd.Distribution, role: str) -> None:
    """Refuses a distribution whose variables Keras would not see.

    Args:
        distribution: any.
        role: its role in the model, such as "the prior".

    Raises:
        ValueError: if it holds variables that train.
    """
    if getattr(distribution, "trainable_variables", ()):
        raise ValueError(
            "Keras does not see the variables inside a distribution: they "
            f"would neither train nor be saved. Make {role} a layer that "
            "holds them by add_weight and returns the distribution. Received: "
            f"{distribution}."
        )
