"""What flows cost: a training step of the MLP with them, beside without.

The network is the MLP of `networks.py`. The rows take turns in one run; what
counts is the ratio of the medians to the diagonal Gaussian with the standard
normal prior.

    python benchmarks/flows.py
    KERAS_BACKEND=jax python benchmarks/flows.py
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from measure import arguments, in_turns, report
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
    functions = {}
    for name in ROWS:
        train = functools.partial(
            model(name).fit, x, batch_size=BATCH, verbose=0
        )
        train(epochs=options.epochs)  # compiles
        functions[name] = functools.partial(train, epochs=options.epochs)
    seconds = in_turns(functions, options.rounds)
    steps = options.epochs * -(-options.examples // BATCH)
    points = [
        {
            "row": name,
            "milliseconds": 1e3 * found / steps,
            "ratio": found / seconds["diagonal"],
        }
        for name, found in seconds.items()
    ]
    backend = keras.backend.backend()
    print(f"\nMLP, Keras on {backend}, batch {BATCH}\n")
    report(
        options.out,
        f"flows-{backend}",
        points,
        {
            "row": ("row", ""),
            "ms a step": ("milliseconds", ".2f"),
            "to diagonal": ("ratio", ".2f"),
        },
    )


if __name__ == "__main__":
    main()
