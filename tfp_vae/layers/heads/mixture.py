"""Layers that return mixtures of several distributions of one family."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_num_components
from tfp_vae.layers.distribution_layer import DistributionLayer, check_width
from tfp_vae.layers.heads.categorical import OneHotCategorical
from tfp_vae.layers.heads.distribution_lambda import DistributionLambda
from tfp_vae.layers.heads.independent import (
    IndependentLogistic,
    IndependentNormal,
)
from tfp_vae.layers.heads.independent_layer import IndependentLayer
from tfp_vae.substrate import Tensor, tfd

__all__ = [
    "CategoricalMixtureOfOneHotCategorical",
    "MixtureLogistic",
    "MixtureNormal",
    "MixtureSameFamily",
]


@keras.saving.register_keras_serializable("tfp_vae")
class MixtureSameFamily(DistributionLayer):
    """A mixture of distributions from one layer.

    ```none
    p(y) = sum_k w_k p_k(y),    w = softmax(logits),    k = 1, ..., K
    ```

    Draws are not reparameterised: no gradient reaches the weights through them.
    So a mixture can be a likelihood or a prior, but not a posterior.

    Args:
        num_components: K.
        component_layer: a distribution layer, which is called with
            `[..., K, component_params_size]`, or another function from such a
            tensor to a distribution of batch shape `[..., K]`. To be saved, a
            function must be registered, as in `DistributionLambda`.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., K * (1 + component_params_size)]`: the K logits, then
            the parameters of one component after the other.

    Returns:
        `tfd.MixtureSameFamily` of batch shape `[...]` over the event of the
        components.

    Raises:
        TypeError: if `component_layer` is not callable.
        ValueError: if `num_components` is not a positive int, the inputs are of
            the wrong width, or the components have an optimal scale.

    Example:
    ```python
    size = MixtureSameFamily.params_size(5, IndependentHuber.params_size(2))
    head = keras.Sequential([
        keras.layers.Dense(size),
        MixtureSameFamily(5, IndependentHuber(2)),
    ])
    ```

    Reference:
        Bishop. Mixture density networks. Aston University, 1994.
        https://publications.aston.ac.uk/id/eprint/373/
    """

    def __init__(
        self,
        num_components: int,
        component_layer: Callable[[Tensor], tfd.Distribution],
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        if not callable(component_layer):
            raise TypeError(
                "The component_layer of a mixture is a distribution layer, or "
                "a function from parameters to a distribution. Received: "
                f"{component_layer!r}."
            )
        if getattr(component_layer, "modes", {}).get("scale") == "optimal":
            raise ValueError(
                "An optimal scale is that of a single distribution, not of one "
                "component among others: in a mixture take scale='learned', "
                "'shared' or a number. Received: scale='optimal'."
            )
        super().__init__(
            getattr(component_layer, "event_shape", ()),
            convert_to_tensor_fn,
            **kwargs,
        )
        self.num_components = check_num_components(num_components)
        if not isinstance(component_layer, keras.layers.Layer):
            component_layer = DistributionLambda(component_layer)
        self.component_layer = component_layer

    @staticmethod
    def params_size(num_components: int, component_params_size: int) -> int:
        """`num_components * (1 + component_params_size)`."""
        return check_num_components(num_components) * (
            1 + component_params_size
        )

    def _component_shape(self, width: Any) -> tuple[int, ...]:
        """The shape after the batch in the inputs of the component layer."""
        size = width // self.num_components - 1
        inner: tuple[int, ...] = ()
        if isinstance(self.component_layer, IndependentLayer):
            # Channels last, since with flat parameters the K components could
            # be mistaken for the K rows of an event.
            inner = self.component_layer.event_shape[:-1]
        return (self.num_components, *inner, size // math.prod(inner))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        width = input_shape[-1]
        expected = (
            f"{type(self).__name__} takes params_size={self.num_components} * "
            "(1 + component_params_size) parameters on its last axis. "
            f"Received: {width}."
        )
        if not width or width % self.num_components:
            raise ValueError(
                f"{expected} End the layer before in "
                f"{type(self).__name__}.params_size(...) units."
            )
        if self.component_layer.built:
            return
        try:
            self.component_layer.build(
                (*input_shape[:-1], *self._component_shape(width))
            )
        except ValueError as error:
            raise ValueError(f"{expected} For a component: {error}") from error

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        *batch, width = input_shape
        shape = self.component_layer.compute_output_shape(
            (*batch, *self._component_shape(width))
        )
        return (*batch, *shape[len(batch) + 1 :])

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        batch = ops.shape(params)[:-1]
        shape = self._component_shape(params.shape[-1])
        parameters = params[..., self.num_components :]
        if len(shape) > 2:
            event = self.component_layer.event_shape
            parameters = ops.moveaxis(
                ops.reshape(
                    parameters, (*batch, self.num_components, -1, *event)
                ),
                len(batch) + 1,
                -2,
            )
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=params[..., : self.num_components]),
            self.component_layer(ops.reshape(parameters, (*batch, *shape))),
            name=type(self).__name__,
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["event_shape"]
        return {
            **config,
            "num_components": self.num_components,
            "component_layer": keras.saving.serialize_keras_object(
                self.component_layer
            ),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MixtureSameFamily":
        config = dict(config)
        if isinstance(config.get("component_layer"), dict):
            config["component_layer"] = keras.saving.deserialize_keras_object(
                config["component_layer"]
            )
        return cls(**config)


class _MixtureOfIndependent(MixtureSameFamily):
    """A mixture over events of independent elements, of one family."""

    component: type[IndependentLayer]

    def __init__(
        self,
        num_components: int,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        layer = self.component(
            event_shape, min_scale=min_scale, dtype=kwargs.get("dtype")
        )
        super().__init__(num_components, layer, convert_to_tensor_fn, **kwargs)
        self.min_scale = layer.min_scale

    @classmethod
    def params_size(cls, num_components: int, event_shape: Any = ()) -> int:
        """`num_components * (1 + 2 * size of an event)`."""
        return MixtureSameFamily.params_size(
            num_components, cls.component.params_size(event_shape)
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_width(self, input_shape, self.num_parameters)
        super().build(input_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["component_layer"]
        return {
            **config,
            "event_shape": self.event_shape,
            "min_scale": self.min_scale,
        }


@keras.saving.register_keras_serializable("tfp_vae")
class MixtureNormal(_MixtureOfIndependent):
    """A mixture of K products of normal variables.

    Args:
        num_components: K.
        event_shape: int or tuple of ints, by default `()`, a scalar.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: the floor of the scales, which are `softplus(x) + min_scale`.
            A component that shrinks onto one example has an unbounded density:
            raise the floor to the resolution of the data.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., K * (1 + 2 n)]` for events of n elements: the logits,
            then the locations and raw scales of one component after the other.

    Returns:
        `tfd.MixtureSameFamily` of batch shape `[...]` over `event_shape`.

    Raises:
        ValueError: see `MixtureSameFamily`.
    """

    component = IndependentNormal


@keras.saving.register_keras_serializable("tfp_vae")
class MixtureLogistic(_MixtureOfIndependent):
    """A mixture of K products of logistic variables.

    Args:
        num_components: K.
        event_shape: int or tuple of ints, by default `()`, a scalar.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: the floor of the scales, which are `softplus(x) + min_scale`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., K * (1 + 2 n)]`, as for `MixtureNormal`.

    Returns:
        `tfd.MixtureSameFamily` of batch shape `[...]` over `event_shape`.

    Raises:
        ValueError: see `MixtureSameFamily`.
    """

    component = IndependentLogistic


@keras.saving.register_keras_serializable("tfp_vae")
class CategoricalMixtureOfOneHotCategorical(MixtureSameFamily):
    """A mixture of K distributions over classes, as vectors with a single 1.

    Args:
        event_size: int, the number of classes d.
        num_components: K.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: `[..., K * (1 + d)]`: the logits of the components, then the
            class logits of one component after the other.

    Returns:
        `tfd.MixtureSameFamily` of batch shape `[...]`, event shape `[d]`, of
        float dtype. Its mean is the vector of the probabilities of the classes.

    Raises:
        ValueError: see `MixtureSameFamily`.
    """

    def __init__(
        self,
        event_size: int,
        num_components: int,
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        layer = OneHotCategorical(event_size, dtype=kwargs.get("dtype"))
        super().__init__(num_components, layer, convert_to_tensor_fn, **kwargs)
        self.event_size = layer.event_size

    @staticmethod
    def params_size(  # type: ignore[override]
        event_size: int, num_components: int
    ) -> int:
        """`num_components * (1 + event_size)`."""
        return MixtureSameFamily.params_size(
            num_components, OneHotCategorical.params_size(event_size)
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_width(self, input_shape, self.num_parameters)
        super().build(input_shape)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["component_layer"]
        return {**config, "event_size": self.event_size}
