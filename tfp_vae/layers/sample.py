"""From a distribution to a tensor."""

from typing import Any

import keras

from tfp_vae.substrate import Tensor, tfd, tfp_seed

__all__ = ["Sample"]


@keras.saving.register_keras_serializable("tfp_vae")
class Sample(keras.layers.Layer):
    """Draws once from a distribution, inside any Keras model.

    The gradient passes through the draw where the distribution is
    reparameterised.

    Args:
        seed: an int for noise that can be repeated, or None.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        distribution: a `tfd.Distribution`, or in a symbolic call the output of
            a distribution layer.

    Returns:
        A tensor, `batch_shape + event_shape`.

    Raises:
        TypeError: if given a tensor.

    Example:
    ```python
    posterior = MultivariateNormalDiag(2)(keras.layers.Dense(4)(inputs))
    z = Sample()(posterior)
    ```
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def __call__(self, distribution: Any, **kwargs: Any) -> Tensor:
        # Keras takes nothing but tensors by position.
        return super().__call__(distribution=distribution, **kwargs)

    def call(self, distribution: tfd.Distribution) -> Tensor:
        if not isinstance(distribution, tfd.Distribution):
            raise TypeError(
                "Sample draws from a distribution: give it the output of a "
                "distribution layer. Received: "
                f"{type(distribution).__name__}."
            )
        return distribution.sample(seed=tfp_seed(self.seed_generator))

    def compute_output_spec(
        self, distribution: keras.KerasTensor
    ) -> keras.KerasTensor:
        return keras.KerasTensor(distribution.shape, dtype=distribution.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}
