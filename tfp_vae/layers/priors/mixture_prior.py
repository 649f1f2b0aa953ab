"""A mixture of Gaussians as a prior."""

from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_min_scale, vector_size
from tfp_vae.distributions.softplus import INVERSE_OF_ONE, softplus
from tfp_vae.layers.priors.prior_layer import PriorLayer
from tfp_vae.substrate import tfd

__all__ = ["MixturePrior"]


@keras.saving.register_keras_serializable("tfp_vae")
class MixturePrior(PriorLayer):
    """A trained mixture of Gaussians of diagonal covariance.

    ```none
    p(z) = sum_k w_k Normal(z; m_k, diag(s_k**2))
    ```

    Args:
        num_components: K.
        event_size: int, the length L of the latent vectors.
        min_scale: the floor of the standard deviations, which are
            `softplus(x) + min_scale`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: None; a prior has no input.

    Returns:
        `tfd.MixtureSameFamily` of batch shape `[]` over `[L]`. At the start the
        weights are equal, the means are drawn from the standard normal, and the
        standard deviations are 1.

    Raises:
        ValueError: if a size is not a positive int.

    Example:
    ```python
    vae = VAE(encoder, decoder, prior=MixturePrior(10, event_size=2))
    ```
    """

    def __init__(
        self,
        num_components: int,
        event_size: int,
        min_scale: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_components, **kwargs)
        self.event_size = vector_size(event_size)
        self.min_scale = check_min_scale(min_scale)
        shape = (num_components, self.event_size)
        self.logits = self.add_weight(
            shape=(num_components,), initializer="zeros", name="logits"
        )
        self.loc = self.add_weight(
            shape=shape,
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            name="loc",
        )
        self.raw_scale = self.add_weight(
            shape=shape,
            initializer=keras.initializers.Constant(INVERSE_OF_ONE),
            name="raw_scale",
        )
        self.built = True

    def call(self, inputs: None = None) -> tfd.Distribution:
        # Values, since TFP would keep Keras' variables.
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=ops.convert_to_tensor(self.logits)),
            tfd.MultivariateNormalDiag(
                ops.convert_to_tensor(self.loc),
                softplus(ops.convert_to_tensor(self.raw_scale))
                + self.min_scale,
            ),
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "event_size": self.event_size,
            "min_scale": self.min_scale,
        }
