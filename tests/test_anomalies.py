"""Scores of strange examples and elements, where both are known exactly."""

import keras
import numpy as np
import pytest
import scipy.stats
from support import numpy

from tfp_vae import VAE, evaluation, layers
from tfp_vae.distributions import Composite, log_prob_by_element
from tfp_vae.plotting import save_anomalies
from tfp_vae.substrate import tfd

D, L, SIGMA = 4, 2, 0.6
RNG = np.random.default_rng(1)
# Orthogonal columns, so that the posterior is diagonal.
W = np.array([[1.0, 0.5], [-1.0, 1.0], [1.0, 0.5], [0.0, 0.0]])
B = np.array([0.3, -1.0, 0.0, 2.0])
SPREAD = 1 / (1 + (W**2).sum(0) / SIGMA**2)  # the posterior's variance


def linear_gaussian(likelihood, **options):
    """x = W z + b + noise of scale SIGMA, with the exact posterior."""
    assert W[:, 0] @ W[:, 1] == 0
    gain = (SPREAD * W / SIGMA**2).astype("float32")
    encoder = keras.Sequential(
        [
            keras.Input((D,)),
            keras.layers.Dense(2 * L),
            layers.IndependentNormal(L),
        ]
    )
    raw = np.log(np.expm1(np.sqrt(SPREAD)))
    encoder.layers[0].set_weights(
        [
            np.concatenate([gain, 0 * gain], 1),
            np.concatenate([-B @ gain, raw]),
        ]
    )
    decoder = keras.Sequential(
        [keras.Input((L,)), keras.layers.Dense(D), likelihood]
    )
    decoder.layers[0].set_weights([W.T, B])
    return VAE(encoder, decoder, **options)


@pytest.fixture(scope="module")
def model():
    return linear_gaussian(layers.IndependentNormal(D, scale=SIGMA))


X = (
    RNG.normal(size=(7, L)) @ W.T + B + SIGMA * RNG.normal(size=(7, D))
).astype("float32")
X[3, 3] += 9.0  # strange in one element


def test_of_an_example_it_is_minus_the_log_evidence(model):
    """With the exact posterior all weights are equal, so one draw is enough."""
    found = evaluation.anomaly_score(model, X, num_samples=2, seed=0)
    exact = -scipy.stats.multivariate_normal.logpdf(
        X, B, W @ W.T + SIGMA**2 * np.eye(D)
    )
    # float32: numbers up to 250 nats, and some of them cancel.
    np.testing.assert_allclose(found, exact, rtol=3e-5)
    assert found.argmax() == 3


def test_of_an_element_it_is_the_closed_form(model):
    samples = 40_000
    found = evaluation.anomaly_score(
        model, X, samples, seed=0, per_element=True, batch_size=4
    )
    mean = (X - B) @ (SPREAD * W / SIGMA**2)
    residual = X - B - mean @ W.T
    spread = (W**2) @ SPREAD  # the variance of x_i - W_i z
    exact = (
        (residual**2 + spread) / (2 * SIGMA**2)
        + np.log(SIGMA)
        + 0.5 * np.log(2 * np.pi)
    )
    # The variance of a squared normal variable over 2 SIGMA**2, for 28
    # elements.
    error = np.sqrt(
        (2 * spread**2 + 4 * residual**2 * spread) / (4 * SIGMA**4) / samples
    )
    rounding = 1e-5 * np.maximum(1, np.abs(exact))  # float32
    assert (np.abs(found - exact) < 5 * error + rounding).all()
    assert np.unravel_index(found.argmax(), found.shape) == (3, 3)


def test_a_gap_has_no_score_and_changes_no_other(model):
    """The encoder sees 0 instead, for any marker."""
    gaps = RNG.random(X.shape) < 0.3
    exact = evaluation.anomaly_score(
        model, np.where(gaps, 0, X), 20, seed=0, per_element=True
    )
    for marker in (np.nan, -99.0):
        vae = linear_gaussian(
            layers.IndependentNormal(D, scale=SIGMA), missing_values=marker
        )
        x = np.where(gaps, np.float32(marker), X)
        found = evaluation.anomaly_score(vae, x, 20, seed=0, per_element=True)
        np.testing.assert_allclose(
            found, np.where(gaps, np.nan, exact), rtol=1e-5
        )
        assert np.isfinite(evaluation.anomaly_score(vae, x, 20, seed=0)).all()


def test_mixed_columns_each_by_its_own_density():
    row = Composite(
        [
            tfd.Independent(tfd.Normal([0.0, 1.0], [1.0, 2.0]), 1),
            tfd.Bernoulli(logits=0.3),
            tfd.Independent(tfd.Poisson([2.0]), 1),
            tfd.MultivariateNormalDiag([1.0, 2.0], [0.5, 3.0]),
        ],
        columns=[[0, 3], 1, [2], [5, 4]],
    )
    x = np.float32([0.4, 1.0, 3.0, -0.2, 0.7, 1.3])
    exact = [
        scipy.stats.norm.logpdf(0.4),
        scipy.stats.bernoulli.logpmf(1, 1 / (1 + np.exp(-0.3))),
        scipy.stats.poisson.logpmf(3, 2),
        scipy.stats.norm.logpdf(-0.2, 1, 2),
        scipy.stats.norm.logpdf(0.7, 2, 3),
        scipy.stats.norm.logpdf(1.3, 1, 0.5),
    ]
    found = numpy(log_prob_by_element(row, x))
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_what_depends_on_each_other_is_refused():
    triangle = layers.MultivariateNormalTriL(D)
    decoder = keras.Sequential([keras.Input((L,)), layers.Head(triangle)])
    encoder = keras.Sequential(
        [keras.Input((D,)), layers.Head(layers.MultivariateNormalDiag(L))]
    )
    vae = VAE(encoder, decoder)
    with pytest.raises(NotImplementedError, match="coordinates are indep"):
        evaluation.anomaly_score(vae, X, per_element=True)
    assert evaluation.anomaly_score(vae, X, 20, seed=0).shape == (7,)
    one_hot = Composite([tfd.OneHotCategorical(logits=[0.0, 1.0, 2.0])])
    with pytest.raises(NotImplementedError, match="OneHotCategorical"):
        log_prob_by_element(one_hot, [0.0, 1.0, 0.0])


def test_bad_input_is_refused(model):
    for arguments in ({"num_samples": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="int >= 1"):
            evaluation.anomaly_score(model, X, per_element=True, **arguments)
    with pytest.raises(ValueError, match="finite"):
        evaluation.anomaly_score(model, np.full_like(X, np.nan))
    with pytest.raises(ValueError, match="event shape"):
        evaluation.anomaly_score(model, X, per_element=True, y=X[:, :3])


@pytest.mark.parametrize("event", [(4,), (5, 5), (5, 5, 3)])
def test_a_picture_is_drawn(tmp_path, event):
    x = RNG.random((6, *event)).astype("float32")
    scores = RNG.normal(size=(6, *event))
    shown = save_anomalies(tmp_path / "a.png", x, scores, count=3)
    assert (tmp_path / "a.png").stat().st_size > 1000
    np.testing.assert_array_equal(
        shown, np.argsort(-scores.reshape(6, -1).sum(1), kind="stable")[:3]
    )


def test_cells_of_a_picture_may_be_none(tmp_path):
    x = np.array([["a", None], [1.5, True]], dtype=object)
    save_anomalies(tmp_path / "a.png", x, np.ones((2, 2)))
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_wrong_picture_is_refused(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match=r"one score for each element"):
        save_anomalies(path, X, np.zeros(7))
    with pytest.raises(ValueError, match=r"one name for each of 4"):
        save_anomalies(path, X, np.zeros_like(X), names=["a"])
    with pytest.raises(ValueError, match=r"\[7\]"):
        save_anomalies(path, X, np.zeros_like(X), scores=np.zeros(3))
    assert not path.exists()
