"""The estimated evidence, compared with the known evidence of a model."""

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops
from support import numpy

from tfp_vae import VAE, layers
from tfp_vae.pareto import pareto_k
from tfp_vae.substrate import tfd

D, L = 4, 2


def linear_gaussian():
    """x = W z + b + noise of scale 0.6, the encoder only roughly right."""
    keras.utils.set_random_seed(5)
    encoder = keras.Sequential(
        [
            keras.Input((D,)),
            keras.layers.Dense(2 * L),
            layers.MultivariateNormalDiag(L),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((L,)),
            keras.layers.Dense(D),
            layers.IndependentNormal(D, scale=0.6),
        ]
    )
    vae = VAE(encoder, decoder)
    x = numpy(vae.sample(90, seed=1))
    vae.compile(keras.optimizers.Adam(0.02))
    decoder.trainable = False
    vae.compile(keras.optimizers.Adam(0.02))
    vae.fit(x, epochs=40, verbose=0)
    w = numpy(decoder.layers[0].kernel).astype("float64")
    exact = scipy.stats.multivariate_normal.logpdf(
        x, numpy(decoder.layers[0].bias), w.T @ w + 0.36 * np.eye(D)
    )
    return vae, x, exact


@pytest.fixture(scope="module")
def model():
    return linear_gaussian()


@pytest.mark.parametrize("samples", [400, 1600])
def test_estimates_cover_the_truth(model, samples):
    vae, x, exact = model
    found = vae.marginal_log_likelihood(x, samples, batch_size=40, seed=0)
    z = (found.log_likelihood - exact) / found.standard_error
    # The logarithm of a mean is too low by half its variance, to first order.
    # The mean of 90 independent scores of unit variance has an error below five
    # standard errors, and so has the standard deviation.
    bias = -found.standard_error.mean() / 2
    assert abs(z.mean() - bias) < 5 / np.sqrt(90)
    assert abs(z.std() - 1) < 5 / np.sqrt(2 * 90)
    assert (found.effective_sample_size <= samples * (1 + 1e-6)).all()
    single = [vae.evaluate(x, verbose=0, seed=s)[0] for s in range(20)]
    assert -np.mean(single) < found.log_likelihood.mean()


def test_wrong_use_is_refused(model):
    vae, x, _ = model
    for arguments in ({"num_samples": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="int >= 1"):
            vae.marginal_log_likelihood(x, **arguments)
    with pytest.raises(ValueError, match="finite"):
        vae.marginal_log_likelihood(np.full_like(x, np.nan))
    with pytest.raises(ValueError, match="event shape"):
        vae.marginal_log_likelihood(x[..., None])
    doubles = vae.marginal_log_likelihood(x[:5].astype("float64"), 10, seed=0)
    floats = vae.marginal_log_likelihood(x[:5], 10, seed=0)
    np.testing.assert_array_equal(doubles.log_likelihood, floats.log_likelihood)


def test_batches_and_chunks_do_not_matter(model, monkeypatch):
    vae, x, exact = model
    monkeypatch.setattr("tfp_vae.evaluation.batches.ROWS", 200)
    found = vae.marginal_log_likelihood(x, 2000, batch_size=50, seed=0)
    assert found.log_likelihood.shape == (90,)
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.3)
    again = vae.marginal_log_likelihood(x, 2000, batch_size=50, seed=0)
    np.testing.assert_array_equal(found.log_likelihood, again.log_likelihood)


def test_the_tail_of_the_weights_is_recognised(model):
    """Where weights have a Pareto tail of known shape, and in a good model."""
    rng = np.random.default_rng(0)
    for shape in (0.2, 0.7, 1.5):
        # The 300 largest of 10,000, and the threshold.
        weights = scipy.stats.genpareto(shape).rvs((10_000, 50), rng)
        largest = np.sort(np.log(weights), axis=0)[-301:]
        # The estimator has the standard deviation (1 + k) / sqrt(300), and the
        # prior moves it by 10 / 310 of its distance from 1/2.
        expected = (300 * shape + 5) / 310
        found = pareto_k(largest)
        error = (1 + shape) / np.sqrt(300)
        assert abs(found.mean() - expected) < 5 * error / np.sqrt(50) + 0.03
        assert found.std() < 1.5 * error
    vae, x, _ = model
    found = vae.marginal_log_likelihood(x, 1000, seed=0)
    assert np.median(found.pareto_k) < 0.7
    few = vae.marginal_log_likelihood(x[:3], 10, seed=0)
    assert np.isnan(few.pareto_k).all()


def test_a_posterior_too_narrow_is_told(model):
    """A tenth of the true width: the weights have no finite variance."""
    vae, x, _ = model
    inner = keras.Sequential(vae.encoder.layers[:-1])

    class Narrow(keras.layers.Layer):
        def call(self, x):
            loc, raw = ops.split(inner(x), 2, axis=-1)
            return tfd.MultivariateNormalDiag(loc, 0.1 * ops.softplus(raw))

    narrow = VAE(Narrow(), vae.decoder)
    narrow(x[:2])
    with pytest.warns(UserWarning, match=r"Received: more in \d+% of 90 ex"):
        found = narrow.marginal_log_likelihood(x, 1000, seed=0)
    assert np.median(found.pareto_k) > 0.7
    # Too few for a k-hat, and there is no warning.
    narrow.marginal_log_likelihood(x, 24, seed=0)


def test_one_sample_has_no_spread(model):
    vae, x, _ = model
    found = vae.marginal_log_likelihood(x, 1, seed=0)
    assert np.isfinite(found.log_likelihood).all()
    assert np.isnan(found.standard_error).all()


def test_weights_all_alike():
    assert pareto_k(np.zeros((30, 2))).tolist() == [-np.inf, -np.inf]


def test_weights_that_are_all_nothing_beside_one():
    """The excess of most of them underflows: the tail is the worst possible."""
    log_weights = np.random.default_rng(0).normal(scale=2e3, size=(31, 8))
    assert (pareto_k(log_weights) > 0.7).all()
