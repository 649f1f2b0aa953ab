"""TFP's notebook "Probabilistic Layers: Regression", cases 1 and 2.

A line with a constant scatter, a line whose scatter is learned too, and a case
that the notebook lacks: the same with a few wild targets and a Student-t
instead of the Normal, which changes one word. (The later cases of the notebook
need `DenseVariational` and `VariationalGaussianProcess`, which are not
distribution layers.)

    python examples/layers_regression.py
"""

import argparse

import keras
import numpy as np

import tfp_vae
from tfp_vae import layers as tfpl
from tfp_vae.losses import NegativeLogLikelihood
from tfp_vae.substrate import tfd


def data(
    n: int = 150, wild: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The notebook's data: x, y, and x to predict at."""
    rng = np.random.default_rng(43)
    low, high = -20.0, 60.0
    x = (high - low) * rng.random(n) + low
    scatter = 3 * (0.25 + ((x - low) / (high - low)) ** 2)
    y = 0.125 * x * (1.0 + np.sin(x)) + 5.0 + rng.normal(size=n) * scatter
    y = np.where(rng.random(n) < wild, 150.0, y)
    return (
        np.float32(x[:, None]),
        np.float32(y[:, None]),
        np.linspace(low, high, 5, dtype="float32")[:, None],
    )


@keras.saving.register_keras_serializable("examples")
def constant_scatter(t: keras.KerasTensor) -> tfd.Distribution:
    """Case 1: Normal(t, 1)."""
    return tfd.Independent(tfd.Normal(loc=t, scale=1.0), 1)


@keras.saving.register_keras_serializable("examples")
def learned_scatter(t: keras.KerasTensor) -> tfd.Distribution:
    """Case 2: the scale, too, is linear in x."""
    scale = 1e-3 + keras.ops.softplus(0.05 * t[..., 1:])
    return tfd.Independent(tfd.Normal(loc=t[..., :1], scale=scale), 1)


@keras.saving.register_keras_serializable("examples")
def heavy_tails(t: keras.KerasTensor) -> tfd.Distribution:
    """Case 2 with a Student-t instead of the Normal."""
    scale = 1e-3 + keras.ops.softplus(0.05 * t[..., 1:])
    return tfd.Independent(tfd.StudentT(3.0, t[..., :1], scale), 1)


def fit(
    width: int,
    head: keras.layers.Layer,
    x: np.ndarray,
    y: np.ndarray,
    epochs: int,
) -> keras.Model:
    """A linear model that ends in a distribution."""
    keras.utils.set_random_seed(0)
    model = tfp_vae.Sequential(
        [keras.Input((1,)), keras.layers.Dense(width), head]
    )
    model.compile(keras.optimizers.Adam(0.01), loss=NegativeLogLikelihood())
    model.fit(x, y, epochs=epochs, verbose=0)
    return model


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1000)
    options = parser.parse_args()
    heads = {
        "1. Normal(line, 1)": (1, constant_scatter, 0.0),
        "2. Normal(line, line)": (2, learned_scatter, 0.0),
        "Normal, wild targets": (2, learned_scatter, 0.1),
        "StudentT, wild targets": (2, heavy_tails, 0.1),
    }
    print(f"{'':24}{'nats a point':>13}   mean +- stddev at x = -20 ... 60")
    for name, (width, distribution, wild) in heads.items():
        x, y, at = data(wild=wild)
        head = tfpl.DistributionLambda(distribution)
        model = fit(width, head, x, y, options.epochs)
        loss = model.evaluate(x, y, verbose=0)
        spread = keras.ops.convert_to_numpy(model(at).stddev())
        line = "  ".join(
            f"{m:.1f} +- {s:.1f}"
            for m, s in zip(
                model.predict(at, verbose=0)[:, 0], spread[:, 0], strict=True
            )
        )
        print(f"{name:24}{-loss:13.2f}   {line}")


if __name__ == "__main__":
    main()
