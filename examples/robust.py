"""Shared by the image examples: outliers, networks, training, the table."""

import argparse
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from tfp_vae import VAE
from tfp_vae.layers import (
    DistributionLayer,
    IndependentBernoulli,
    IndependentHuber,
    IndependentNormal,
    MultivariateNormalDiag,
)
from tfp_vae.plotting import save_image_panels

# One scale for all pixels: with its own scale, a pixel that never changes would
# take this scale to zero, and the likelihood to infinity, without any meaning.
HEADS = {
    "Normal": (IndependentNormal, {"scale": "shared"}),
    "Huber": (IndependentHuber, {"scale": "shared", "delta": 1.0}),
    "Bernoulli": (IndependentBernoulli, {}),
}

Networks = Callable[[DistributionLayer, int], tuple[keras.Model, keras.Model]]


def arguments(description: str, epochs: int) -> argparse.ArgumentParser:
    """The options of every image example."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument(
        "--limit", type=int, help="train on so many images only"
    )
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seed", type=int, default=0)
    return parser


def corrupt(x: np.ndarray, seed: int) -> np.ndarray:
    """A fifth of the images get hot pixels: one in ten, at five times white."""
    rng = np.random.default_rng(seed)
    images = rng.random(len(x)) < 0.2
    pixels = rng.random(x.shape) < 0.1
    hot = pixels & images.reshape(-1, *[1] * (x.ndim - 1))
    return np.where(hot, np.float32(5.0), x)


def train(
    name: str,
    networks: Networks,
    x: np.ndarray,
    options: argparse.Namespace,
) -> VAE:
    """A trained VAE with the head of that name."""
    keras.utils.set_random_seed(options.seed)
    head, modes = HEADS[name]
    event_shape = x.shape[1:]
    channels = head.params_size(event_shape[-1], **modes)
    vae = VAE(
        *networks(head(event_shape, **modes), channels), seed=options.seed
    )
    vae.compile(keras.optimizers.Adam(1e-3))
    print(f"\n{name}: training on {len(x)} images")
    vae.fit(x, batch_size=64, epochs=options.epochs, verbose=2)
    return vae


def compare(
    networks: Networks,
    x_train: np.ndarray,
    x_test: np.ndarray,
    options: argparse.Namespace,
    title: str,
) -> None:
    """Trains all three, prints the table and draws the picture.

    Args:
        networks: function of a head and its channels to encoder and decoder.
        x_train: clean images in [0, 1], `[N, height, width, 1]`.
        x_test: the same, held out.
        options: what `arguments` parsed.
        title: the name of the data, which names the picture too.
    """
    x_train = x_train[: options.limit]
    dirty = corrupt(x_train, options.seed)
    rows, panels = [], {}
    for name in HEADS:
        binary = name == "Bernoulli"
        data, held_out = (
            ((v > 0.5).astype("float32") for v in (x_train, x_test))
            if binary
            else (dirty, x_test)
        )
        vae = train(name, networks, data, options)
        found = vae.marginal_log_likelihood(held_out, seed=0, verbose=True)
        elbo = -vae.evaluate(held_out, verbose=0)[0]
        rows.append((name, "binary" if binary else "outliers", elbo, found))
        to_numpy = keras.ops.convert_to_numpy
        panels[name] = {
            "originals": data[:12],
            "reconstructions": to_numpy(vae.reconstruct(data[:12])),
            "fresh samples": to_numpy(vae.sample(12, seed=1)),
        }

    print(f"\n{title}: {len(x_test)} clean images held out, nats per example")
    print(
        f"{'likelihood':12}{'trained on':12}{'ELBO':>10}{'log p(x)':>12}   s.e."
    )
    for name, trained_on, elbo, found in rows:
        value = found.log_likelihood
        error = value.std(ddof=1) / np.sqrt(len(value))
        print(
            f"{name:12}{trained_on:12}{elbo:10.2f}{value.mean():12.2f}"
            f"   {error:.2f}"
        )
    gain = rows[1][3].log_likelihood - rows[0][3].log_likelihood
    error = gain.std(ddof=1) / np.sqrt(len(gain))
    print(f"Huber - Normal, paired:{gain.mean():24.2f}   {error:.2f}")
    print("(Bernoulli: probabilities of binary images, not to be compared.)")
    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / f"{title.lower()}.png"
    save_image_panels(picture, panels)
    print(f"Picture: {picture}")


def encoder_head(latent: int) -> list[keras.layers.Layer]:
    """The end of every encoder: a Gaussian of diagonal covariance."""
    return [
        keras.layers.Dense(MultivariateNormalDiag.params_size(latent)),
        MultivariateNormalDiag(latent),
    ]
