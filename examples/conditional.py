"""A conditional VAE: digits of a class that you choose.

The encoder gets the label together with the image, and the decoder together
with z. A classifier that was trained on real images tests whether the images
generated for a label are that digit. The data come with scikit-learn, or from a
file in the layout of Keras' mnist.npz.

    python examples/conditional.py
    python examples/conditional.py --data mnist.npz --epochs 10
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from tfp_vae import VAE
from tfp_vae.layers import (
    DistributionLayer,
    Head,
    IndependentBernoulli,
    MultivariateNormalDiag,
)

LATENT, CLASSES = 6, 10


def load(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1], flat, and labels."""
    if path is None:
        digits = load_digits()
        return digits.data.astype("float32") / 16, digits.target.astype("int32")
    with np.load(path) as data:
        images = data["x_train"].reshape(len(data["x_train"]), -1)
        return images.astype("float32") / 255, data["y_train"].astype("int32")


def networks(
    pixels: int, head: DistributionLayer
) -> tuple[keras.Model, keras.Model]:
    """Both name their inputs by the entries that they ask for."""
    layers = keras.layers

    def hidden(name: str, size: int) -> tuple[list, keras.KerasTensor]:
        inputs = [
            keras.Input((size,), name=name),
            keras.Input((), dtype="int32", name="label"),
        ]
        label = layers.Embedding(CLASSES, 16)(inputs[1])
        both = layers.Concatenate()([inputs[0], label])
        return inputs, layers.Dense(256, "relu")(both)

    inputs, h = hidden("x", pixels)
    encoder = keras.Model(inputs, Head(MultivariateNormalDiag(LATENT))(h))
    inputs, h = hidden("z", LATENT)
    decoder = keras.Model(inputs, Head(head)(h))
    return encoder, decoder


def save_picture(images: np.ndarray, path: Path) -> None:
    """One row for each digit."""
    rows, columns, pixels = images.shape
    side = int(np.sqrt(pixels))
    image = images.reshape(rows, columns, side, side).swapaxes(1, 2)
    image = image.reshape(rows * side, columns * side, 1)
    keras.utils.save_img(path, np.repeat(np.repeat(image, 4, 0), 4, 1))


def main() -> float:
    """Runs the example; returns the share of recognised images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="like Keras' mnist.npz")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--picture", type=Path, default="conditional.png")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    x, label = load(options.data)
    # Grey levels are probabilities of ink; each pixel is drawn once.
    ink = (np.random.default_rng(0).random(x.shape) < x).astype("float32")
    classifier = KNeighborsClassifier(5).fit(x[:5000], label[:5000])

    vae = VAE(*networks(x.shape[1], IndependentBernoulli(x.shape[1])), seed=0)
    vae.compile(keras.optimizers.Adam(2e-3))
    vae.fit(
        {"x": ink, "label": label},
        batch_size=128,
        epochs=options.epochs,
        verbose=0,
    )

    wanted = np.repeat(np.arange(CLASSES), 100)
    images = np.asarray(vae.sample(1000, label=wanted, mean=True, seed=0))
    right = (classifier.predict(images) == wanted).mean()
    print(f"{right:.1%} of 1000 images are the digit they were generated for")

    # The same style, another digit: encode with one label, decode with all.
    z = vae.encode({"x": ink[:1], "label": label[:1]}).mean()
    others = np.asarray(
        vae.decode(np.repeat(z, CLASSES, 0), label=np.arange(CLASSES)).mean()
    )
    print(f"a {label[0]}, as every digit: {classifier.predict(others)}")
    rows = images.reshape(CLASSES, 100, -1)[:, :10]
    save_picture(rows, options.picture)
    print(f"{options.picture}: ten draws of each digit")
    return float(right)


if __name__ == "__main__":
    main()
