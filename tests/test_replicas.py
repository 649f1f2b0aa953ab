"""Two replicas train like one device, and draw different noise."""

import contextlib

import keras
import numpy as np
import pytest
from support import BACKEND, numpy

from tfp_vae import VAE, layers
from tfp_vae.substrate import tfd

D, L = 6, 2
X = np.random.default_rng(0).normal(size=(160, D)).astype("float32")


def without_noise(params):
    return tfd.Independent(tfd.Deterministic(params), 1)


def model(posterior, steps=1):
    keras.utils.set_random_seed(3)
    encoder = keras.Sequential(
        [
            keras.Input((D,)),
            keras.layers.Dense(2 * L if posterior == "noisy" else L),
            layers.MultivariateNormalDiag(L)
            if posterior == "noisy"
            else layers.DistributionLambda(without_noise),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((L,)),
            # A regularizer is scaled by the replicas like the objective.
            keras.layers.Dense(2 * D, kernel_regularizer="l2"),
            layers.IndependentNormal(D),
        ]
    )
    vae = VAE(encoder, decoder, seed=1)
    vae.compile(keras.optimizers.Adam(0.01), steps_per_execution=steps)
    return vae


@contextlib.contextmanager
def two_devices():
    """The scope to build and train in, for either backend."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        # The default all-reduce numbers its collectives per process: a second
        # strategy would use the numbers of the first.
        strategy = tf.distribute.MirroredStrategy(
            ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
        )
        with strategy.scope():
            yield
        return
    devices = keras.distribution.list_devices("cpu")[:2]
    assert len(devices) == 2
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def ten_steps(vae):
    """Global batches of 16."""
    history = vae.fit(X, batch_size=16, epochs=1, verbose=0, shuffle=False)
    assert numpy(vae.optimizer.iterations) == 10
    return history.history, vae.evaluate(X, batch_size=16, verbose=0)


@pytest.mark.parametrize("steps", [1, 4])
def test_loss_and_weights_agree_with_one_device(steps):
    single = model("deterministic")
    history, evaluated = ten_steps(single)
    with two_devices():
        double = model("deterministic")
        history2, evaluated2 = ten_steps(double)
    for name, value in history.items():
        assert history2[name] == pytest.approx(value, rel=1e-5), name
    assert evaluated2 == pytest.approx(evaluated, rel=1e-5)
    for a, b in zip(
        single.trainable_variables, double.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(numpy(a), numpy(b), rtol=1e-4, atol=1e-6)


def test_replicas_draw_different_noise():
    x = np.ones((16, D), "float32")
    with two_devices():
        vae = model("noisy")
        ten_steps(vae)
        if BACKEND == "tensorflow":
            import tensorflow as tf

            strategy = tf.distribute.get_strategy()
            draws = strategy.run(
                tf.function(lambda: vae(x[:8], training=True)[1])
            )
            halves = [
                numpy(t) for t in strategy.experimental_local_results(draws)
            ]
        else:
            halves = np.split(numpy(vae(x, training=True)[1]), 2)
    # The same x everywhere, so only the noise can differ.
    assert (halves[0] != halves[1]).all()
