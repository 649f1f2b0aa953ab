"""Robust and ordinary VAEs on scikit-learn's digits, a fifth of them spoilt.

The script trains a Normal and a Huber VAE on images with outlier pixels and a
Bernoulli VAE on clean binary ones, prints the log-likelihood of clean held-out
images and writes out/digits.png: originals, reconstructions and fresh samples.

    python examples/digits.py
    KERAS_BACKEND=jax python examples/digits.py
"""

import keras
from robust import arguments, compare, encoder_head
from sklearn.datasets import load_digits

from tfp_vae.layers import DistributionLayer

LATENT = 8


def networks(
    head: DistributionLayer, channels: int
) -> tuple[keras.Model, keras.Model]:
    """Two dense layers on each side, for 8x8 images."""
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(128, "relu"),
            layers.Dense(64, "relu"),
            *encoder_head(LATENT),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(64, "relu"),
            layers.Dense(128, "relu"),
            layers.Dense(64 * channels),
            layers.Reshape((8, 8, channels)),
            head,
        ]
    )
    return encoder, decoder


def main() -> None:
    """Runs the example."""
    options = arguments(__doc__.splitlines()[0], epochs=100).parse_args()
    images = load_digits().images.astype("float32")[..., None] / 16
    compare(networks, images[:1437], images[1437:], options, "Digits")


if __name__ == "__main__":
    main()
