"""The base of layers that act on every element of an event alike."""

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import (
    canonical_event_shape,
    check_min_scale,
    is_positive_number,
)
from tfp_vae.distributions.softplus import INVERSE_OF_ONE, softplus
from tfp_vae.layers.distribution_layer import DistributionLayer, check_width
from tfp_vae.layers.heads.optimal_scale import OptimalScale
from tfp_vae.substrate import Tensor, tfd

__all__ = ["IndependentLayer", "Mode"]

#: Where a positive parameter comes from: "learned", "shared" or a number.
Mode = str | float


class IndependentLayer(DistributionLayer):
    """The base of layers that act on every element of an event alike.

    A subclass names the parameters of one element in `parameters`. It lists
    those that must be positive in `positive`, each with a default mode. It
    defines their distribution: by `family`, a function that takes them by name,
    or by overriding `element_distribution`. The result is wrapped in
    `tfd.Independent`. Instead of `positive`, `__init__` may have an argument
    with the name of the parameter and its default mode: then `help` and an
    editor show it.

    **Layout.** Parameters come flat, `[..., params_size]`, or with the
    channels last, `[..., *event_shape[:-1], k * event_shape[-1]]`, as a
    convolution emits them, for k learned parameters per element. In both cases
    the last axis holds the first parameter of all elements, then the second, as
    in `tfp.layers`.

    **Modes.** Each positive parameter is an argument of the layer: `"learned"`
    (from the network, for each element), `"shared"` (one trainable number for
    all, starting at 1), or a number. A scale may also be `"optimal"`, where
    the layer implements `optimal_scale`: one number for all, the
    maximum-likelihood scale of the current batch in training (the optimal
    sigma-VAE of Rybkin et al., 2021), and its running mean in evaluation. A
    learned or shared parameter is `softplus(x) + min_scale`, so it never
    reaches zero.

    Args:
        event_shape: int or tuple of ints, the shape of one draw; by default
            `()`, a scalar.
        convert_to_tensor_fn: see `DistributionLayer`.
        min_scale: the floor of the positive parameters, in their units.
        **kwargs: the mode of each parameter named in `positive`; the others
            are those of `keras.layers.Layer`.

    Call arguments:
        inputs: parameters, flat or with the channels last.

    Returns:
        `tfd.Independent` of batch shape `[...]` over `event_shape`.

    Raises:
        ValueError: for an unknown mode, a number or a floor that is not
            positive, or inputs of the wrong width.

    Example:
    ```python
    @keras.saving.register_keras_serializable()
    class IndependentGumbel(IndependentLayer):
        family = tfd.Gumbel
        parameters = ("loc", "scale")
        positive = {"scale": "learned"}
    ```

    Reference:
        Rybkin, Daniilidis, Levine. Simple and effective VAE training with
        calibrated decoders. ICML 2021. https://arxiv.org/abs/2006.13202
    """

    family: Callable[..., tfd.Distribution] | None = None
    parameters: tuple[str, ...] = ()
    positive: dict[str, Mode] = {}
    # The parameters in `positive` that may be the number 0.
    may_be_zero: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Takes the modes that `__init__` names, and their defaults.

        Args:
            **kwargs: of the next class.

        Raises:
            TypeError: if `positive` of the subclass has another default.
        """
        super().__init_subclass__(**kwargs)
        arguments = inspect.signature(cls.__init__).parameters
        named = {
            name: arguments[name].default
            for name in cls.parameters
            if name in arguments
        }
        for name, mode in vars(cls).get("positive", {}).items():
            if named.get(name, mode) != mode:
                raise TypeError(
                    "The default of a mode is that of the argument of "
                    f"__init__. Received: {cls.__name__} with {name}={mode!r} "
                    f"in `positive` and {name}={named[name]!r} in __init__. "
                    f"Give it an __init__ with {name}={mode!r}."
                )
        cls.positive = {**cls.positive, **named}

    def __init__(
        self,
        event_shape: Any = (),
        convert_to_tensor_fn: Any = None,
        min_scale: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        modes = {
            name: kwargs.pop(name, mode) for name, mode in self.positive.items()
        }
        super().__init__(event_shape, convert_to_tensor_fn, **kwargs)
        self.modes = self._checked(modes)
        self.min_scale = check_min_scale(min_scale)
        self._shared: dict[str, keras.Variable] = {}

    @classmethod
    def _checked(cls, modes: dict[str, Any]) -> dict[str, Mode]:
        """The modes, if all of them are valid."""
        has_optimum = cls.optimal_scale is not IndependentLayer.optimal_scale
        for name, mode in modes.items():
            if name not in cls.positive:
                raise ValueError(
                    f"{cls.__name__} has modes for {tuple(cls.positive)}. "
                    f"Received: {name}={mode!r}."
                )
            words = ["learned", "shared"]
            if name == "scale" and has_optimum:
                words.append("optimal")
            zero = name in cls.may_be_zero
            if (
                mode not in words
                and not is_positive_number(mode)
                and not (zero and mode == 0 and not isinstance(mode, bool))
            ):
                raise ValueError(
                    f"In {cls.__name__}, `{name}` is a positive number"
                    f"{', 0' * zero} or one of {', '.join(map(repr, words))}. "
                    f"Received: {name}={mode!r}."
                )
        return {
            name: mode if isinstance(mode, str) else float(mode)
            for name, mode in modes.items()
        }

    def element_distribution(self, *args: Any, **kwargs: Any) -> Any:
        """The distribution of each element, of batch shape `[..., *event]`.

        Args:
            *args: none.
            **kwargs: the names in `parameters`, each `[..., *event]` or a
                scalar.

        Returns:
            A distribution over scalars.
        """
        family = type(self).family
        if family is None:
            raise NotImplementedError(
                f"{type(self).__name__} must build the distribution of one "
                "element: set `family` to a function of its parameters by "
                "name, or override element_distribution(self, <parameters>)."
            )
        return family(*args, **kwargs)

    def optimal_scale(self, residual: Tensor) -> Tensor:
        """The maximum-likelihood scale of residuals about the location.

        Args:
            residual: data minus location, any shape.

        Returns:
            A scalar in the units of the data.
        """
        raise NotImplementedError

    @classmethod
    def params_size(cls, event_shape: Any = (), **modes: Any) -> int:
        """How many parameters the layer takes from the network.

        Args:
            event_shape: int or tuple of ints.
            **modes: the modes of the positive parameters that differ from
                their defaults, as the constructor takes them.

        Returns:
            The width of the layer before, when the parameters come flat. With
            the channels last it is `params_size(event_shape[-1])` channels.
        """
        modes = cls._checked({**cls.positive, **modes})
        return len(cls._learned(modes)) * math.prod(
            canonical_event_shape(event_shape)
        )

    @property
    def num_parameters(self) -> int:
        return self._params_per_element(self.modes) * math.prod(
            self.event_shape
        )

    @classmethod
    def _learned(cls, modes: dict[str, Mode]) -> list[str]:
        """The parameters that come from the network, in their order."""
        return [
            name
            for name in cls.parameters
            if modes.get(name, "learned") == "learned"
        ]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        for name, mode in self.modes.items():
            if mode == "shared":
                self._shared[name] = self.add_weight(
                    shape=(),
                    initializer=keras.initializers.Constant(INVERSE_OF_ONE),
                    name=f"raw_{name}",
                )
            elif mode == "optimal":
                self._running_scale = self.add_weight(
                    shape=(),
                    initializer="ones",
                    trainable=False,
                    aggregation="mean",
                    name="running_scale",
                )
        self._split_shape(tuple(input_shape))

    def _params_per_element(self, modes: dict[str, Mode]) -> int:
        """How many parameters of one element come from the network."""
        return len(self._learned(modes))

    def _channels_last(self, input_shape: tuple[int | None, ...]) -> bool:
        if len(self.event_shape) < 2 or len(input_shape) <= len(
            self.event_shape
        ):
            return False
        # Compares the width too: a batch may have the shape of an event.
        channels = self._params_per_element(self.modes) * self.event_shape[-1]
        expected = (*self.event_shape[:-1], channels)
        return input_shape[-len(expected) :] == expected

    def _split_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int, ...]:
        """The trailing shape of one parameter, before it becomes the event."""
        shape = (
            self.event_shape[-1:]
            if self._channels_last(input_shape)
            else (math.prod(self.event_shape),)
        )
        check_width(
            self, input_shape, self._params_per_element(self.modes) * shape[0]
        )
        return shape

    def width_of_other_modes(self, input_shape: tuple[int | None, ...]) -> str:
        *before, width = input_shape
        *space, channels = self.event_shape or (1,)
        elements = {math.prod(self.event_shape)}
        if space and before[-len(space) :] == space:
            elements.add(channels)
        for count in range(1, len(self.modes) + 1):
            changes = map(
                self._switched, itertools.combinations(self.modes, count)
            )
            fits = [
                change
                for change in changes
                for number in elements
                if width
                == number * self._params_per_element({**self.modes, **change})
            ]
            if fits:
                return _forgotten(type(self).__name__, fits)
        return ""

    def _switched(self, names: tuple[str, ...]) -> dict[str, Mode]:
        """Modes of another width: learned and not learned swapped."""
        return {
            name: "shared" if self.modes[name] == "learned" else "learned"
            for name in names
        }

    def _batch_dims(self, input_shape: tuple[int | None, ...]) -> int:
        if self._channels_last(input_shape):
            return len(input_shape) - len(self.event_shape)
        return len(input_shape) - 1

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        batch = input_shape[: self._batch_dims(input_shape)]
        return (*batch, *self.event_shape)

    def _raw_parameters(self, inputs: Tensor) -> dict[str, Tensor]:
        """Splits the inputs into one tensor `[..., *event]` per parameter."""
        names = self._learned(self.modes)
        shape = tuple(inputs.shape)
        self._split_shape(shape)
        batch = ops.shape(inputs)[: self._batch_dims(shape)]
        parts = [inputs]
        if len(names) > 1:
            parts = ops.split(inputs, len(names), axis=-1)
        return {
            name: ops.reshape(part, (*batch, *self.event_shape))
            for name, part in zip(names, parts, strict=True)
        }

    def _positive(self, raw: Tensor) -> Tensor:
        return softplus(raw) + self.min_scale

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        parameters = self._raw_parameters(params)
        for name, mode in self.modes.items():
            if mode == "learned":
                parameters[name] = self._positive(parameters[name])
            elif mode == "shared":
                raw = ops.convert_to_tensor(self._shared[name])
                parameters[name] = self._positive(raw)
            elif mode == "optimal":
                parameters[name] = ops.convert_to_tensor(self._running_scale)
            else:
                parameters[name] = ops.cast(mode, self.compute_dtype)
        return tfd.Independent(
            self.element_distribution(**parameters),
            reinterpreted_batch_ndims=len(self.event_shape),
            name=type(self).__name__,
        )

    def call(
        self, inputs: Tensor, training: bool | None = None
    ) -> tfd.Distribution:
        distribution = super().call(inputs)
        if training and self.modes.get("scale") == "optimal":
            return OptimalScale(
                distribution,
                lambda residual: ops.maximum(
                    self.optimal_scale(residual), self.min_scale
                ),
                self._running_scale,
            )
        return distribution

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **self.modes,
            "min_scale": self.min_scale,
        }


def _forgotten(layer: str, choices: list[dict[str, Mode]]) -> str:
    """The end of the message for a width that belongs to other modes."""
    words = {"learned": "'learned'", "shared": "'shared' or a number"}
    meant = "; or for ".join(
        " and ".join(
            f"{name}={words[str(mode)]}" for name, mode in modes.items()
        )
        for modes in choices
    )
    missing = " or ".join(
        " and ".join(f"{name}=..." for name in modes) for modes in choices
    )
    return (
        f", which is the width for {meant}. You forgot {missing}, in {layer} "
        f"or in {layer}.params_size: both take the same arguments."
    )
