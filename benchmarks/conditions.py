"""The cost of conditions and gaps: `fit` of the MLP with and without them.

The network is the MLP of `networks.py`, twice: the labels as ten columns of x
or as a condition, and IWAE with 5 samples on complete data or on data with one
cell in five missing. The rows alternate in one run; the result is the ratio of
the medians in each pair.

    python benchmarks/conditions.py
    KERAS_BACKEND=jax python benchmarks/conditions.py
"""

import functools
from typing import Any

import keras
import numpy as np
from measure import arguments, fits_in_turns
from networks import NETWORKS, keras_layers

from tfp_vae import VAE
from tfp_vae.layers import Head, IndependentBernoulli, MultivariateNormalDiag
from tfp_vae.objectives import ELBO, IWAE

BATCH, LABELS = 128, 10
NETWORK = NETWORKS["mlp"]
(PIXELS,) = NETWORK.shape
LATENT = NETWORK.latent
# Each row, and the row with which it is compared.
PAIRS = {
    "without condition": "without condition",
    "with a condition": "without condition",
    "IWAE, whole": "IWAE, whole",
    "IWAE, gaps": "IWAE, whole",
}


def parts(width: int, condition: bool) -> tuple[keras.Model, keras.Model]:
    """Encoder and decoder; both kinds of decoder return all columns."""
    x = keras.Input((width,), name="x")
    label = keras.Input((LABELS,), name="label")
    found = []
    for first, layers, head in (
        (
            x,
            keras_layers(keras.layers, NETWORK.encoder),
            Head(MultivariateNormalDiag(LATENT)),
        ),
        (
            keras.Input((LATENT,), name="z"),
            keras_layers(keras.layers, NETWORK.decoder)[:-1],
            Head(IndependentBernoulli(width)),
        ),
    ):
        inputs = [first, label] if condition else [first]
        h = keras.layers.Concatenate()(inputs) if condition else first
        for layer in layers:
            h = layer(h)
        found.append(keras.Model(inputs, head(h)))
    return found[0], found[1]


def model(name: str) -> VAE:
    """The compiled model of a row."""
    condition = name == "with a condition"
    iwae = name.startswith("IWAE")
    width = PIXELS if condition or iwae else PIXELS + LABELS
    vae = VAE(
        *parts(width, condition),
        objective=IWAE(5) if iwae else ELBO(),
        missing_values=np.nan if name == "IWAE, gaps" else None,
        seed=0,
    )
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__.splitlines()[0], rounds=7)
    parser.add_argument("--examples", type=int, default=6_400)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = (rng.random((options.examples, PIXELS)) > 0.8).astype("float32")
    labels = np.eye(LABELS, dtype="float32")[
        rng.integers(LABELS, size=options.examples)
    ]
    gaps = np.where(rng.random(x.shape) < 0.2, np.float32(np.nan), x)
    data: dict[str, Any] = {
        "without condition": np.concatenate([x, labels], axis=1),
        "with a condition": {"x": x, "label": labels},
        "IWAE, whole": x,
        "IWAE, gaps": gaps,
    }
    fits = {
        name: functools.partial(
            model(name).fit,
            data[name],
            batch_size=BATCH,
            epochs=options.epochs,
            verbose=0,
        )
        for name in PAIRS
    }
    steps = options.epochs * -(-options.examples // BATCH)
    backend = keras.backend.backend()
    print(f"\nMLP, Keras on {backend}, batch {BATCH}\n")
    fits_in_turns(fits, PAIRS, steps, options, f"conditions-{backend}")


if __name__ == "__main__":
    main()
