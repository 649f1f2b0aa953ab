"""The cost of flows: a training step of the MLP with and without them.

The network is the MLP of `networks.py`. The rows alternate in one run; the
result is the ratio of the medians to the diagonal Gaussian with the standard
normal prior.

    python benchmarks/flows.py
    KERAS_BACKEND=jax python benchmarks/flows.py
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from measure import arguments, fits_in_turns
from networks import NETWORKS, keras_layers

import tfp_vae
from tfp_vae.layers import (
    AffineCoupling,
    Head,
    IndependentBernoulli,
    InverseAutoregressive,
    MultivariateNormalDiag,
    NormalizingFlow,
    Permutation,
    SplineCoupling,
)

BATCH = 128
NETWORK = NETWORKS["mlp"]
LATENT = NETWORK.latent


def _iaf() -> keras.layers.Layer:
    return NormalizingFlow(
        MultivariateNormalDiag(LATENT),
        [InverseAutoregressive(), Permutation(), InverseAutoregressive()],
        context_size=LATENT,
    )


def _prior(transform: Callable[..., Any]) -> keras.layers.Layer:
    return NormalizingFlow(LATENT, [transform(), transform(reverse=True)])


ROWS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "diagonal": (lambda: MultivariateNormalDiag(LATENT), lambda: None),
    "IAF posterior, two transforms": (_iaf, lambda: None),
    "coupling prior, two transforms": (
        lambda: MultivariateNormalDiag(LATENT),
        lambda: _prior(AffineCoupling),
    ),
    "spline prior, two transforms": (
        lambda: MultivariateNormalDiag(LATENT),
        lambda: _prior(SplineCoupling),
    ),
}


def model(name: str) -> tfp_vae.VAE:
    """The MLP with a posterior and a prior."""
    posterior, prior = (make() for make in ROWS[name])
    encoder = keras.Sequential(
        [
            keras.Input(NETWORK.shape),
            *keras_layers(keras.layers, NETWORK.encoder),
            Head(posterior),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((LATENT,)),
            *keras_layers(keras.layers, NETWORK.decoder),
            IndependentBernoulli(NETWORK.shape),
        ]
    )
    vae = tfp_vae.VAE(encoder, decoder, prior=prior, seed=0)
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__.splitlines()[0], rounds=5)
    parser.add_argument("--examples", type=int, default=NETWORK.examples)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    x = np.random.default_rng(0).random((options.examples, *NETWORK.shape))
    x = (x > 0.8).astype("float32")
    fits = {
        name: functools.partial(
            model(name).fit,
            x,
            batch_size=BATCH,
            epochs=options.epochs,
            verbose=0,
        )
        for name in ROWS
    }
    steps = options.epochs * -(-options.examples // BATCH)
    backend = keras.backend.backend()
    print(f"\nMLP, Keras on {backend}, batch {BATCH}\n")
    fits_in_turns(
        fits,
        dict.fromkeys(ROWS, "diagonal"),
        steps,
        options,
        f"flows-{backend}",
    )


if __name__ == "__main__":
    main()
