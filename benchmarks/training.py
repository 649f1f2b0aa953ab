"""Training speed: `VAE.fit` beside a VAE written by hand in Keras 3.

The rival is the recipe of keras.io ("Variational AutoEncoder"): a custom model,
no distributions, on TensorFlow with its own `train_step`. Same network, data,
optimizer and backend; the two take turns, three epochs each, and the figure is
the ratio of the medians (above 1: ours is faster). JSON beside the table.

    python benchmarks/training.py
    KERAS_BACKEND=jax python benchmarks/training.py --workload mlp
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from tfp_vae import VAE
from tfp_vae.layers import IndependentBernoulli, MultivariateNormalDiag

EPOCHS = 3


def mlp() -> tuple[list, list, tuple[int, ...], int]:
    """784-400-2x20 and 20-400-784."""
    encoder = [layers.Dense(400, "relu")]
    decoder = [layers.Dense(400, "relu"), layers.Dense(784)]
    return encoder, decoder, (784,), 20


def conv() -> tuple[list, list, tuple[int, ...], int]:
    """The network of the TensorFlow CVAE tutorial, latent size 2."""
    encoder = [
        layers.Conv2D(32, 3, 2, activation="relu"),
        layers.Conv2D(64, 3, 2, activation="relu"),
        layers.Flatten(),
    ]
    decoder = [
        layers.Dense(7 * 7 * 32, "relu"),
        layers.Reshape((7, 7, 32)),
        layers.Conv2DTranspose(64, 3, 2, "same", activation="relu"),
        layers.Conv2DTranspose(32, 3, 2, "same", activation="relu"),
        layers.Conv2DTranspose(1, 3, 1, "same"),
    ]
    return encoder, decoder, (28, 28, 1), 2


class ByHand(keras.Model):
    """The keras.io recipe; the KL and the cross-entropy summed, as due."""

    def __init__(self, encoder: keras.Model, decoder: keras.Model) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.seed_generator = keras.random.SeedGenerator(1)
        self.reconstruction = keras.metrics.Mean("reconstruction_loss")
        self.kl = keras.metrics.Mean("kl_loss")
        self.built = True

    def call(self, x):
        z_mean, z_log_var = ops.split(self.encoder(x), 2, axis=-1)
        noise = keras.random.normal(ops.shape(z_mean), seed=self.seed_generator)
        z = z_mean + ops.exp(0.5 * z_log_var) * noise
        return z_mean, z_log_var, self.decoder(z)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        z_mean, z_log_var, logits = y_pred
        entropy = keras.losses.binary_crossentropy(
            ops.reshape(x, (-1, 784)),
            ops.reshape(logits, (-1, 784)),
            from_logits=True,
        )
        reconstruction = ops.mean(784 * entropy)
        kl = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
        kl = ops.mean(ops.sum(kl, axis=1))
        self.reconstruction.update_state(reconstruction)
        self.kl.update_state(kl)
        return reconstruction + kl


def by_hand(workload: Callable) -> keras.Model:
    """The rival; on TensorFlow with the train_step of the recipe."""
    encoder, decoder, shape, latent = workload()
    parts = (
        keras.Sequential(
            [keras.Input(shape), *encoder, layers.Dense(2 * latent)]
        ),
        keras.Sequential([keras.Input((latent,)), *decoder]),
    )
    if keras.backend.backend() != "tensorflow":
        return ByHand(*parts)
    import tensorflow as tf

    class WithTrainStep(ByHand):
        def train_step(self, data):
            x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, None, self(x))
            weights = self.trainable_weights
            grads = tape.gradient(loss, weights)
            self.optimizer.apply_gradients(zip(grads, weights, strict=True))
            self._loss_tracker.update_state(loss)
            return {m.name: m.result() for m in self.metrics}

    return WithTrainStep(*parts)


def ours(workload: Callable) -> keras.Model:
    """The same network with distribution layers."""
    encoder, decoder, shape, latent = workload()
    return VAE(
        keras.Sequential(
            [
                keras.Input(shape),
                *encoder,
                layers.Dense(2 * latent),
                MultivariateNormalDiag(latent),
            ]
        ),
        keras.Sequential(
            [keras.Input((latent,)), *decoder, IndependentBernoulli(shape)]
        ),
        seed=1,
    )


def measure(workload: Callable, n: int, rounds: int) -> dict[str, float]:
    """Seconds an epoch, the median over rounds that take turns."""
    _, _, shape, _ = workload()
    x = np.random.default_rng(0).random((n, *shape)) > 0.8
    x = x.astype("float32")
    models = {"tfp_vae": ours(workload), "by hand": by_hand(workload)}
    times: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.compile(keras.optimizers.Adam(1e-3))
        model.fit(x[:1280], batch_size=128, verbose=0)  # compiles
    for _ in range(rounds):
        for name, model in models.items():
            start = time.perf_counter()
            model.fit(x, batch_size=128, epochs=EPOCHS, verbose=0)
            times[name].append((time.perf_counter() - start) / EPOCHS)
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", choices=["mlp", "conv"], action="append")
    parser.add_argument("--examples", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    backend = keras.backend.backend()
    results = {}
    print(
        f"{'workload':10}{'backend':12}{'tfp_vae':>9}{'by hand':>9}{'ratio':>7}"
    )
    for name in options.workload or ["mlp", "conv"]:
        n = options.examples or {"mlp": 60_000, "conv": 10_000}[name]
        found = measure({"mlp": mlp, "conv": conv}[name], n, options.rounds)
        ratio = found["by hand"] / found["tfp_vae"]
        results[name] = {**found, "ratio": ratio, "examples": n}
        print(
            f"{name:10}{backend:12}{found['tfp_vae']:8.2f}s"
            f"{found['by hand']:8.2f}s{ratio:7.2f}",
            flush=True,
        )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"training-{backend}.json"
    path.write_text(json.dumps(results, indent=2))
    print(f"Written: {path}")


if __name__ == "__main__":
    main()
