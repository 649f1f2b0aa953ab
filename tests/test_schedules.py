"""Schedules against numpy, in an objective, and after a save."""

import keras
import numpy as np
import pytest
from support import numpy

from tfp_vae import ELBO, VAE, layers
from tfp_vae.objectives import Cyclical, LinearWarmup

STEPS = np.arange(0.0, 25.0)


def test_values():
    warmup = LinearWarmup(10, start=0.1, end=2.0)
    expected = np.interp(STEPS, [0, 10], [0.1, 2.0])
    np.testing.assert_allclose([warmup(s) for s in STEPS], expected, 1e-6)
    cyclical = Cyclical(8, ramp=0.5, end=4.0)
    expected = [min(s % 8, 4.0) for s in STEPS]
    np.testing.assert_allclose([cyclical(s) for s in STEPS], expected, 1e-6)
    whole = Cyclical(5, ramp=1.0)
    np.testing.assert_allclose([whole(s) for s in STEPS], STEPS % 5 / 5, 1e-6)


def test_training_moves_it_and_a_file_keeps_it(tmp_path):
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
    encoder = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4),
            layers.MultivariateNormalDiag(2),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(6),
            layers.IndependentNormal(3),
        ]
    )
    vae = VAE(encoder, decoder, objective=ELBO(beta=LinearWarmup(4)), seed=0)
    vae.compile(keras.optimizers.Adam(1e-3))
    vae.fit(x, batch_size=12, epochs=1, verbose=0)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    for model in (vae, loaded):
        # Two steps of four: half the KL.
        loss, log_likelihood, kl, beta = model.evaluate(x, verbose=0)
        assert beta == 0.5
        assert loss == pytest.approx(0.5 * kl - log_likelihood, rel=1e-5)
        assert int(numpy(model.objective.step)) == 2
    loaded.fit(x, batch_size=12, epochs=2, verbose=0)
    loss, log_likelihood, kl, beta = loaded.evaluate(x, verbose=0)
    assert beta == 1
    assert loss == pytest.approx(kl - log_likelihood, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearWarmup(0), "num_steps=0"),
        (lambda: LinearWarmup(True), "num_steps=True"),
        (lambda: LinearWarmup(5, start=-1), "start=-1"),
        (lambda: Cyclical(float("inf")), "period=inf"),
        (lambda: Cyclical(5, ramp=0), "ramp=0"),
        (lambda: Cyclical(5, ramp=1.5), "ramp=1.5"),
        (lambda: Cyclical(5, end=float("nan")), "end=nan"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=f"Received: {message}"):
        make()
