"""Robust and ordinary convolutional VAEs on MNIST, a fifth of it spoilt.

Like examples/digits.py, on 28x28 images. The data come from Keras' own loader,
or from a file in its layout.

    python examples/mnist.py
    python examples/mnist.py --data mnist.npz --epochs 10
"""

from pathlib import Path

import keras
import numpy as np
from robust import arguments, compare, encoder_head

from tfp_vae.layers import DistributionLayer

LATENT = 16


def networks(
    head: DistributionLayer, channels: int
) -> tuple[keras.Model, keras.Model]:
    """Two convolutions on each side; the head takes the channels directly."""
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            *encoder_head(LATENT),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(7 * 7 * 32, "relu"),
            layers.Reshape((7, 7, 32)),
            layers.Conv2DTranspose(
                64, 3, strides=2, padding="same", activation="relu"
            ),
            layers.Conv2DTranspose(
                32, 3, strides=2, padding="same", activation="relu"
            ),
            layers.Conv2D(channels, 3, padding="same"),
            head,
        ]
    )
    return encoder, decoder


def load(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images in [0, 1], `[N, 28, 28, 1]`."""
    if path is None:
        (x_train, _), (x_test, _) = keras.datasets.mnist.load_data()
    else:
        with np.load(path) as data:
            x_train, x_test = data["x_train"], data["x_test"]
    return tuple(
        x[..., None].astype("float32") / 255 for x in (x_train, x_test)
    )


def main() -> None:
    """Runs the example."""
    parser = arguments(__doc__.splitlines()[0], epochs=5)
    parser.add_argument(
        "--data", type=Path, help="a file like Keras' mnist.npz"
    )
    parser.add_argument("--test-limit", type=int, default=2000)
    options = parser.parse_args()
    x_train, x_test = load(options.data)
    compare(networks, x_train, x_test[: options.test_limit], options, "MNIST")


if __name__ == "__main__":
    main()
