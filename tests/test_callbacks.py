"""Collapse of the posterior is counted, and gives one warning."""

import warnings

import keras
import numpy as np
import pytest

from tfp_vae import VAE, layers
from tfp_vae.callbacks import PosteriorCollapse, PosteriorCollapseWarning
from tfp_vae.evaluation import kl_per_dimension
from tfp_vae.training.follows_batches import follows_batches

D, L = 6, 3
RNG = np.random.default_rng(0)
X = (3 * RNG.normal(size=(64, 2)) @ RNG.normal(size=(2, D))).astype("float32")


def model(head=layers.MultivariateNormalDiag):
    keras.utils.set_random_seed(3)
    encoder = keras.Sequential(
        [
            keras.Input((D,)),
            keras.layers.Dense(head.params_size(L)),
            head(L),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((L,)),
            keras.layers.Dense(D),
            layers.IndependentNormal(D, scale=0.5),
        ]
    )
    vae = VAE(encoder, decoder, seed=0)
    vae.compile(keras.optimizers.Adam(0.05))
    return vae


def fit(vae, *callbacks, epochs=3):
    return vae.fit(
        X, batch_size=16, epochs=epochs, verbose=0, callbacks=[*callbacks]
    ).history


def test_active_units_stand_in_the_history():
    vae = model()
    callback = PosteriorCollapse(X)
    history = fit(vae, callback)
    assert len(history["active_units"]) == 3
    mean = kl_per_dimension(vae, X).mean(axis=0)
    assert history["active_units"][-1] == (mean > 0.01).sum()
    # A threshold between the KLs of the coordinates separates them.
    low, middle, _ = np.sort(mean)
    threshold = float(low + middle) / 2
    again = fit(model(), PosteriorCollapse(X, threshold=threshold))
    assert again["active_units"][-1] == 2


def test_a_collapse_of_all_is_told_once():
    callback = PosteriorCollapse(X, patience=2)
    vae = model()
    # The posterior is the prior for every x: softplus(log(e - 1)) is 1.
    bias = np.repeat([0.0, np.log(np.expm1(1.0))], L)
    vae.encoder.layers[0].set_weights([np.zeros((D, 2 * L)), bias])
    vae.compile(keras.optimizers.SGD(0.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(vae, callback, epochs=5)
    told = [
        str(w.message)
        for w in caught
        if issubclass(w.category, PosteriorCollapseWarning)
    ]
    assert history["active_units"] == [0] * 5
    assert len(told) == 1
    for words in ("LinearWarmup", "free_bits", "decoder", "scale", "latents"):
        assert words in told[0]
    # And once more in another run.
    with pytest.warns(PosteriorCollapseWarning, match="All latent"):
        fit(vae, callback)


def test_some_coordinates_are_named():
    vae = model()
    mean = kl_per_dimension(vae, X).mean(axis=0)
    lowest = int(mean.argmin())
    threshold = float(np.sort(mean)[:2].mean())
    vae.compile(keras.optimizers.SGD(0.0))
    callback = PosteriorCollapse(X, threshold=threshold, patience=3)
    with pytest.warns(
        PosteriorCollapseWarning, match=rf"1 of 3 .*Collapsed: {lowest}\."
    ):
        fit(vae, callback)
    # Not before the patience has ended; warnings are errors here.
    fit(vae, callback, epochs=2)


def test_patience_counts_times_in_a_row(monkeypatch):
    """The first of two coordinates, in a latent space of shape (1, 2)."""
    callback = PosteriorCollapse(X, patience=2)
    nats = iter([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    monkeypatch.setattr(
        callback, "_kl", lambda x: len(x) * np.array([[next(nats), 1.0]])
    )
    for epoch in range(5):
        callback.on_epoch_end(epoch, {})
    with pytest.warns(PosteriorCollapseWarning, match=r"1 of 2.*\(0, 0\)"):
        callback.on_epoch_end(5, {})


def test_frequency(monkeypatch):
    callback = PosteriorCollapse(X, frequency=3)
    looks = []
    look = callback._look
    monkeypatch.setattr(callback, "_look", lambda: looks.append(look()))
    history = fit(model(), callback, epochs=7)
    assert len(looks) == 3
    assert len(history["active_units"]) == 7
    model().fit(X, initial_epoch=2, epochs=3, verbose=0, callbacks=[callback])
    assert len(looks) == 4


def test_the_pace_of_steps_stays():
    assert not follows_batches(PosteriorCollapse(X))
    assert PosteriorCollapse(np.zeros((5000, D)))._x.shape == (1024, D)


def test_a_model_without_coordinates_is_refused_before_it_trains():
    vae = model(head=layers.MultivariateNormalTriL)
    with pytest.raises(NotImplementedError, match="are independent"):
        fit(vae, PosteriorCollapse(X))
    assert int(vae.optimizer.iterations) == 0


@pytest.mark.parametrize(
    "arguments",
    [{"threshold": -1.0}, {"patience": 0}, {"frequency": 0}, {"x": X[:0]}],
)
def test_wrong_use_is_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        PosteriorCollapse(**{"x": X, **arguments})
