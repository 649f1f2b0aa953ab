"""Steps of training with uncertain weights, beside Keras 2's originals.

Ours run on the backend of Keras, the originals through tf_keras on TensorFlow,
in one run, in turns.

    KERAS_BACKEND=tensorflow python benchmarks/uncertain_weights.py
"""

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import keras
import numpy as np
from measure import arguments, fits_in_turns

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow_probability as original_tfp
    import tf_keras

import tfp_vae
import tfp_vae.tfp_layers as tfpl
from tfp_vae.substrate import tfd

FEATURES, BATCH = 64, 128


def posterior(home: ModuleType, kind: Any, softplus: Any, tfd: Any) -> Any:
    """A maker of mean-field posteriors, of one library's parts."""

    def make(kernel_size: int, bias_size: int, dtype: Any = None) -> Any:
        n = kernel_size + bias_size
        return kind(
            [
                home.VariableLayer(2 * n),
                home.DistributionLambda(
                    lambda t: tfd.Independent(
                        tfd.Normal(t[..., :n], 1e-5 + softplus(t[..., n:])), 1
                    )
                ),
            ]
        )

    return make


def prior(tfd: Any) -> Any:
    """A maker of standard normal priors."""

    def make(kernel_size: int, bias_size: int, dtype: Any = None) -> Any:
        zeros = np.zeros(kernel_size + bias_size, "float32")
        return lambda x: tfd.Independent(tfd.Normal(zeros, 1.0), 1)

    return make


def network(layer: str, ours: bool, units: int, num_examples: int) -> Any:
    """A compiled model of two layers of the name."""
    home = tfpl if ours else original_tfp.layers
    library = tfd if ours else original_tfp.distributions
    keras_of_it = keras if ours else tf_keras

    def make(width: int, activation: str | None) -> Any:
        if layer == "DenseVariational":
            softplus = keras_of_it.activations.softplus
            return home.DenseVariational(
                width,
                posterior(home, keras_of_it.Sequential, softplus, library),
                prior(library),
                kl_weight=1 / num_examples,
                activation=activation,
            )
        return getattr(home, layer)(
            width,
            activation=activation,
            kernel_divergence_fn=lambda q, p, _: (
                library.kl_divergence(q, p) / num_examples
            ),
        )

    kind = tfp_vae.Sequential if ours else tf_keras.Sequential
    model = kind([make(units, "relu"), make(1, None)])
    model.compile("adam", "mse")
    return model


def trainer(model: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """What trains for one epoch."""
    return lambda: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__.splitlines()[0], rounds=5)
    parser.add_argument("--examples", type=int, default=12_800)
    parser.add_argument("--units", type=int, default=256)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(options.examples, FEATURES)).astype("float32")
    y = x[:, :1]
    fits: dict[str, Callable[[], Any]] = {}
    pairs = {}
    with warnings.catch_warnings():
        # The originals call a method that Keras 2 deprecates.
        warnings.simplefilter("ignore")
        for layer in ("DenseFlipout", "DenseVariational"):
            for ours in (True, False):
                name = f"{layer}, {'tfp_vae' if ours else 'tf_keras'}"
                model = network(layer, ours, options.units, options.examples)
                fits[name] = trainer(model, x, y)
                pairs[name] = f"{layer}, tf_keras"
        steps = -(-options.examples // BATCH)
        fits_in_turns(fits, pairs, steps, options, "uncertain_weights")


if __name__ == "__main__":
    main()
