"""A mixture of posteriors as a prior."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.arguments import canonical_event_shape
from tfp_vae.layers.priors.prior_layer import PriorLayer
from tfp_vae.substrate import Tensor, tfd

__all__ = ["VampPrior"]


@keras.saving.register_keras_serializable("tfp_vae")
class VampPrior(PriorLayer):
    """A mixture of the posteriors of trained pseudo-inputs.

    ```none
    p(z) = 1/K sum_k q(z|u_k)
    ```

    The pseudo-inputs u_k have the shape of data, and go through the encoder of
    the model at every step.

    Args:
        num_components: K.
        input_shape: int or tuple of ints, the shape of one example.
        initializer: of the pseudo-inputs, before the activation; a Keras
            initializer. Real examples make a good start:
            `prior.pseudo_inputs.assign(x[:K])`.
        activation: what keeps the pseudo-inputs in the range of the data, such
            as `"sigmoid"` for pixels in [0, 1]; by default none.
        conditions: for a conditional encoder, the conditions of the
            pseudo-inputs by name, each `[K, ...]`, such as
            `{"label": np.arange(K) % 10}`. Floats are where training starts;
            integers stay as they are.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: None.
        encoder: function from x, `[K, *event]`, to q(z|x). `VAE` gives its own.
        training: whether layers of the encoder are in training.

    Returns:
        `tfd.MixtureSameFamily` of batch shape `[]` over the latent event.

    Raises:
        ValueError: if a size is not a positive int.

    Example:
    ```python
    vae = VAE(encoder, decoder, prior=VampPrior(50, input_shape=784))
    ```

    Reference:
        Tomczak, Welling. VAE with a VampPrior. AISTATS 2018.
        https://arxiv.org/abs/1705.07120
    """

    def __init__(
        self,
        num_components: int,
        input_shape: Any,
        initializer: Any = "random_normal",
        activation: Any = None,
        conditions: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_components, **kwargs)
        self.pseudo_input_shape = canonical_event_shape(input_shape)
        self.initializer = keras.initializers.get(initializer)
        self.activation = keras.activations.get(activation)
        self.pseudo_inputs = self.add_weight(
            shape=(num_components, *self.pseudo_input_shape),
            initializer=self.initializer,
            name="pseudo_inputs",
        )
        self.conditions = {
            name: np.asarray(value).tolist()
            for name, value in (conditions or {}).items()
        }
        self.condition_values = {
            name: self._condition(name, np.asarray(value))
            for name, value in (conditions or {}).items()
        }
        self.built = True

    def _condition(self, name: str, value: np.ndarray) -> Any:
        if value.dtype.kind not in "biuf" or value.shape[:1] != (
            self.num_components,
        ):
            raise ValueError(
                "A VampPrior has one condition for each pseudo-input, numbers "
                f"[{self.num_components}, ...]. Received: {name} of shape "
                f"{value.shape} and dtype {value.dtype}."
            )
        is_float = value.dtype.kind == "f"
        weight = self.add_weight(
            shape=value.shape,
            initializer="zeros",
            dtype=None if is_float else "int32",
            trainable=is_float,
            name=name,
        )
        weight.assign(value.astype(weight.dtype))
        return weight

    def call(
        self,
        inputs: None = None,
        encoder: Callable[..., tfd.Distribution] | None = None,
        training: bool | None = None,
    ) -> tfd.Distribution:
        if encoder is None:
            raise ValueError(
                "A VampPrior is a mixture of posteriors: it is called with the "
                "encoder that gives them, prior(None, encoder=vae.encode). "
                "Received: encoder=None."
            )
        pseudo: Tensor = self.activation(
            ops.convert_to_tensor(self.pseudo_inputs)
        )
        data = pseudo
        if self.condition_values:
            data = {
                name: ops.convert_to_tensor(value)
                for name, value in self.condition_values.items()
            } | {"x": pseudo}
        posteriors = encoder(data, training=training)
        dtype = keras.backend.standardize_dtype(posteriors.dtype)
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=ops.zeros((self.num_components,), dtype)),
            posteriors,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_shape": self.pseudo_input_shape,
            "initializer": keras.initializers.serialize(self.initializer),
            "activation": keras.activations.serialize(self.activation),
            "conditions": self.conditions or None,
        }
