"""Distributions over weights that are made anew of variables at each call."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.layers.distribution_layer import check_no_variables
from tfp_vae.substrate import Tensor, tfd

__all__ = ["DTypeName", "UncertainWeight"]


class DTypeName(str):
    """The name of a dtype, which also answers as TensorFlow's dtypes do.

    Functions that make posteriors are handed a dtype. Those written for
    `tfp.layers` ask it for `as_numpy_dtype`, those for Keras 3 take a string.
    """

    @property
    def name(self) -> str:
        return str(self)

    @property
    def as_numpy_dtype(self) -> Any:
        return np.dtype(str(self)).type

    @property
    def base_dtype(self) -> "DTypeName":
        return self


class UncertainWeight:
    """A distribution of which a function makes the variables, once.

    `tfp.layers` keep the distribution that the function returned while the
    layer was built. Its parameters are then variables, or have to be a
    `tfp.util.DeferredTensor`. Here the function is called again whenever the
    distribution is needed, and given the values that its variables have then:
    so it may do with them what it likes, on both backends.

    Args:
        layer: that holds the variables.
        make: function of `(dtype, shape, name, trainable, add_variable_fn)` to
            a `tfd.Distribution`.
        shape: of a draw.
        name: begins the names of the variables.

    Raises:
        TypeError: if the function returns something else.
        ValueError: if the distribution is not over `shape`, holds variables
            that were not made by `add_variable_fn`, or if the function asks for
            others at a later call.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        make: Callable[..., tfd.Distribution],
        shape: tuple[int, ...],
        name: str,
    ) -> None:
        self.make = make
        self.shape = tuple(shape)
        self.name = name
        self.trainable = layer.trainable
        self.dtype = DTypeName(layer.variable_dtype)
        self.variables: list[keras.Variable] = []

        def add_variable(
            name: str | None = None,
            shape: Any = (),
            dtype: Any = None,
            initializer: Any = None,
            regularizer: Any = None,
            trainable: bool | None = None,
            constraint: Any = None,
            **_: Any,
        ) -> Tensor:
            if isinstance(initializer, keras.initializers.Initializer):
                # One that is used twice draws the same twice.
                initializer = initializer.clone()
            variable = layer.add_weight(
                shape=tuple(int(size) for size in np.atleast_1d(shape)),
                initializer=initializer,
                dtype=keras.backend.standardize_dtype(dtype or self.dtype),
                trainable=True if trainable is None else trainable,
                autocast=False,
                regularizer=regularizer,
                constraint=constraint,
                name=name,
            )
            self.variables.append(variable)
            return _value(variable)

        self._check(self._made_by(add_variable))

    def __call__(self) -> tfd.Distribution:
        """The distribution, of what the variables are now."""
        variables = iter(self.variables)

        def next_variable(*_: Any, **__: Any) -> Tensor:
            try:
                return _value(next(variables))
            except StopIteration:
                raise ValueError(_OTHER_VARIABLES.format(self.name)) from None

        made = self._made_by(next_variable)
        if next(variables, None) is not None:
            raise ValueError(_OTHER_VARIABLES.format(self.name))
        return made

    def _made_by(self, add_variable_fn: Callable[..., Tensor]) -> Any:
        return self.make(
            self.dtype, self.shape, self.name, self.trainable, add_variable_fn
        )

    def _check(self, made: Any) -> None:
        if not isinstance(made, tfd.Distribution):
            raise TypeError(
                f"What makes a {self.name} returns a tfp.distributions object "
                f"of the running backend. Received: {type(made).__name__}."
            )
        check_no_variables(made, f"the {self.name}")
        found = (*made.batch_shape, *made.event_shape)
        if np.broadcast_shapes(found, self.shape) != self.shape:
            raise ValueError(
                f"A {self.name} is a distribution over tensors of the shape it "
                f"is told, {self.shape}. Received: draws of shape {found}. "
                "Make its parameters of the argument `shape`."
            )


_OTHER_VARIABLES = (
    "The function that makes a distribution of weights is called again at each "
    "use, and must ask add_variable_fn for the same variables in the same "
    "order. Received: other variables for {}."
)


def _value(variable: keras.Variable) -> Tensor:
    # Not the variable itself, which `ops.convert_to_tensor` gives back on
    # TensorFlow.
    return ops.cast(variable, variable.dtype)
