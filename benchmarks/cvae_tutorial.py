"""The TensorFlow CVAE tutorial's model, by its own loop and by `VAE.fit`.

https://www.tensorflow.org/tutorials/generative/cvae: MNIST thresholded at 0.5,
convolutions of 32 and 64, latent size 2, Adam 1e-4, batch 32, 10 epochs. The
tutorial's loss is a single-sample Monte Carlo estimate of the whole ELBO; ours
has the KL in closed form. Both should reach the same held-out ELBO.

    python benchmarks/cvae_tutorial.py --data mnist.npz
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from training import conv, ours

LOG_2PI = float(np.log(2.0 * np.pi))


def networks() -> tuple[keras.Model, keras.Model]:
    """The tutorial's encoder (mean and log variance) and decoder (logits)."""
    encoder, decoder, shape, latent = conv()
    return (
        keras.Sequential(
            [keras.Input(shape), *encoder, keras.layers.Dense(2 * latent)]
        ),
        keras.Sequential([keras.Input((latent,)), *decoder]),
    )


def log_normal(z: tf.Tensor, mean: tf.Tensor, logvar: tf.Tensor) -> tf.Tensor:
    """log N(z; mean, exp(logvar)), summed over the latent."""
    square = (z - mean) ** 2 * tf.exp(-logvar)
    return tf.reduce_sum(-0.5 * (square + logvar + LOG_2PI), axis=1)


def tutorial(
    x_train: np.ndarray, x_test: np.ndarray, epochs: int, batch: int
) -> float:
    """The hand-written loop; returns the held-out ELBO after the last epoch."""
    encoder, decoder = networks()
    optimizer = keras.optimizers.Adam(1e-4)

    def loss(x: tf.Tensor) -> tf.Tensor:
        mean, logvar = tf.split(encoder(x), 2, axis=1)
        z = mean + tf.exp(0.5 * logvar) * tf.random.normal(tf.shape(mean))
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(x, decoder(z))
        log_px_z = -tf.reduce_sum(entropy, axis=[1, 2, 3])
        log_pz = log_normal(z, tf.zeros_like(z), tf.zeros_like(z))
        return -tf.reduce_mean(log_px_z + log_pz - log_normal(z, mean, logvar))

    weights = encoder.trainable_variables + decoder.trainable_variables
    optimizer.build(weights)

    @tf.function
    def step(x: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            value = loss(x)
        optimizer.apply(tape.gradient(value, weights), weights)

    evaluate = tf.function(loss)
    data = tf.data.Dataset.from_tensor_slices(x_train)
    data = data.shuffle(len(x_train)).batch(batch)
    test = tf.data.Dataset.from_tensor_slices(x_test).batch(batch)
    for epoch in range(epochs):
        start = time.perf_counter()
        for x in data:
            step(x)
        elbo = -float(np.mean([evaluate(x) for x in test]))
        seconds = time.perf_counter() - start
        print(f"tutorial, epoch {epoch + 1}: {elbo:.2f} nats, {seconds:.0f} s")
    return elbo


def layers(
    x_train: np.ndarray, x_test: np.ndarray, epochs: int, batch: int
) -> float:
    """The same by `VAE.fit`."""
    vae = ours(conv)
    vae.compile(keras.optimizers.Adam(1e-4))
    history = vae.fit(
        x_train,
        batch_size=batch,
        epochs=epochs,
        validation_data=(x_test,),
        verbose=2,
    )
    return -history.history["val_loss"][-1]


def main() -> None:
    """Runs both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with np.load(options.data) as data:
        x_train, x_test = (
            (data[name][..., None] / 255.0 > 0.5).astype("float32")
            for name in ("x_train", "x_test")
        )
    results = {}
    for run in (layers, tutorial):
        keras.utils.set_random_seed(options.seed)
        results[run.__name__] = run(x_train, x_test, options.epochs, 32)
    print(
        f"held-out ELBO after {options.epochs} epochs: tutorial "
        f"{results['tutorial']:.2f}, tfp_vae {results['layers']:.2f} nats, "
        f"difference {results['layers'] - results['tutorial']:+.2f}"
    )


if __name__ == "__main__":
    main()
