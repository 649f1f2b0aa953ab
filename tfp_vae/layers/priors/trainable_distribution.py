"""Any family of TFP as a layer whose parameters train."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.serialization import (
    class_name,
    deserialize_function,
    find_class,
    serialize_function,
)
from tfp_vae.substrate import tfb, tfd

__all__ = ["TrainableDistribution"]


@keras.saving.register_keras_serializable("tfp_vae")
class TrainableDistribution(keras.layers.Layer):
    """A distribution of any class whose parameters are weights.

    ```none
    parameter = bijector(weight)
    ```

    with the bijector that TFP's `parameter_properties` name for it: a scale
    stays positive, a Cholesky factor triangular. A parameter without such a
    bijector (a number of trials, a bound that depends on another) keeps its
    given value.

    All batch dimensions of the parameters become the event, as a prior needs:
    with vectors as parameters it is a distribution over vectors of independent
    elements.

    Args:
        distribution_class: a class of `tfp.distributions` or of
            `tfp_vae.distributions`, or one registered with Keras.
        trainable: of `keras.layers.Layer`.
        dtype: of the weights, float32 by default.
        name: of the layer.
        **parameters: of the class, as initial values: numbers or arrays.
            Others, such as `validate_args` or the energy of a `Gibbs`, are
            passed on; a function must be registered to be saved.

    Call arguments:
        inputs: None; there is no input.

    Returns:
        A distribution of batch shape `[]`.

    Raises:
        TypeError: if the class cannot be found again by its name, or a
            parameter is a distribution; on saving, if a function is not
            registered with Keras.
        ValueError: for an unknown parameter, or a value out of range.

    Example:
    ```python
    prior = TrainableDistribution(tfd.StudentT, df=5, loc=[0.0] * 8, scale=1)
    ```
    """

    def __init__(
        self,
        distribution_class: type[tfd.Distribution],
        *,
        trainable: bool = True,
        dtype: Any = None,
        name: str | None = None,
        **parameters: Any,
    ) -> None:
        if dtype is None:
            dtype = keras.config.dtype_policy().variable_dtype
        super().__init__(trainable=trainable, dtype=dtype, name=name)
        self._class_name = class_name(distribution_class)
        self.distribution_class = distribution_class
        self.parameters = {
            key: _plain(key, value) for key, value in parameters.items()
        }
        self.bijectors: dict[str, tfb.Bijector] = {}
        self.raw: dict[str, keras.Variable] = {}
        self._make_weights()
        try:
            self._distribution()
        except TypeError as error:
            raise ValueError(
                f"The parameters are those of {distribution_class.__name__}. "
                f"Received: {', '.join(parameters)} ({error})."
            ) from error
        self.built = True

    def _make_weights(self) -> None:
        properties = self.distribution_class.parameter_properties(
            np.dtype(self.variable_dtype)
        )
        for key, value in self.parameters.items():
            if key not in properties or value is None:
                continue
            try:
                bijector = properties[key].default_constraining_bijector_fn()
            except NotImplementedError:
                continue
            tensor = ops.convert_to_tensor(value, self.variable_dtype)
            raw = ops.convert_to_numpy(bijector.inverse(tensor))
            if not np.isfinite(raw).all():
                raise ValueError(
                    f"Training begins at a valid {key} of "
                    f"{self.distribution_class.__name__}. "
                    f"Received: {key}={value!r}."
                )
            self.bijectors[key] = bijector
            self.raw[key] = self.add_weight(
                shape=raw.shape,
                initializer=lambda shape, dtype, raw=raw: ops.convert_to_tensor(
                    raw, dtype
                ),
                name=f"raw_{key}",
            )

    def _distribution(self) -> tfd.Distribution:
        trained = {
            key: self.bijectors[key].forward(ops.cast(raw, raw.dtype))
            for key, raw in self.raw.items()
        }
        # Other numbers get the dtype of the weights.
        fixed = {
            key: np.asarray(value, self.variable_dtype)
            if isinstance(value, (float, list))
            else value
            for key, value in self.parameters.items()
        }
        return self.distribution_class(**{**fixed, **trained})

    def call(self, inputs: None = None) -> tfd.Distribution:
        distribution = self._distribution()
        batch_ndims = len(distribution.batch_shape)
        if not batch_ndims:
            return distribution
        return tfd.Independent(distribution, batch_ndims)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "distribution_class": self._class_name,
            "parameters": {
                key: serialize_function(value, f"{self._class_name}'s {key}")
                if callable(value)
                else value
                for key, value in self.parameters.items()
            },
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TrainableDistribution":
        config = dict(config)
        found = find_class(config.pop("distribution_class"))
        parameters: dict[str, Any] = {
            key: deserialize_function(value, key)
            if isinstance(value, dict)
            else value
            for key, value in config.pop("parameters").items()
        }
        return cls(found, **parameters, **config)


def _plain(key: str, value: Any) -> Any:
    """Numbers and lists of numbers, as a config has them; or a function."""
    is_plain = value is None or isinstance(value, (bool, int, float, str))
    if is_plain or callable(value):
        return value
    if isinstance(value, tfd.Distribution):
        raise TypeError(
            "The parameters of a TrainableDistribution are numbers and arrays. "
            f"Received: {key}={value!r}. A mixture of layers is a "
            "layers.Mixture."
        )
    return np.asarray(ops.convert_to_numpy(value)).tolist()
