"""A mixture of any layers, such as flows, as a prior."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_num_components
from tfp_vae.layers.priors.prior_layer import PriorLayer
from tfp_vae.substrate import Tensor, ps, tfd

__all__ = ["Mixture"]


@keras.saving.register_keras_serializable("tfp_vae")
class Mixture(PriorLayer):
    """A mixture of what other layers return, with trained weights.

    ```none
    p(z) = sum_k w_k p_k(z)
    ```

    The components may be of different kinds: flows, `TrainableDistribution`s.

    Args:
        components: layers that return distributions over the same event, and
            are called like a prior.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: None.
        context: passed on to the components, or None.

    Returns:
        `tfd.Mixture` of the components' batch shape. The weights start equal.

    Raises:
        TypeError: if a component is not a layer.
        ValueError: without components.

    Example:
    ```python
    flows = [NormalizingFlow(2, [AffineCoupling()]) for _ in range(3)]
    vae = VAE(encoder, decoder, prior=Mixture(flows))
    ```
    """

    def __init__(
        self, components: Sequence[keras.layers.Layer], **kwargs: Any
    ) -> None:
        components = list(components)
        super().__init__(check_num_components(len(components)), **kwargs)
        for component in components:
            if not isinstance(component, keras.layers.Layer):
                raise TypeError(
                    "The components of a Mixture are layers that return "
                    "distributions, such as NormalizingFlow(2, [...]). "
                    f"Received: {component!r}."
                )
        self.components = components
        self.logits = self.add_weight(
            shape=(self.num_components,), initializer="zeros", name="logits"
        )
        self.built = True

    def call(
        self, inputs: None = None, context: Tensor | None = None
    ) -> tfd.Distribution:
        given = {} if context is None else {"context": context}
        components = [layer(inputs, **given) for layer in self.components]
        logits = ops.cast(self.logits, self.compute_dtype)
        shape = ps.concat(
            [components[0].batch_shape_tensor(), [self.num_components]], 0
        )
        return tfd.Mixture(
            tfd.Categorical(logits=ops.broadcast_to(logits, shape)), components
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["num_components"]
        return {
            **config,
            "components": [
                keras.saving.serialize_keras_object(component)
                for component in self.components
            ],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Mixture":
        config = dict(config)
        components = [
            keras.saving.deserialize_keras_object(component)
            for component in config.pop("components")
        ]
        return cls(components, **config)
