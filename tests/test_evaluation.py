"""The estimated evidence, against a model whose evidence is known."""

import keras
import numpy as np
import pytest
import scipy.stats
from support import numpy

from tfp_vae import VAE, layers
from tfp_vae.evaluation import marginal_log_likelihood

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
    found = marginal_log_likelihood(vae, x, samples, batch_size=40)
    z = (found.log_likelihood - exact) / found.standard_error
    # The logarithm of a mean is low by half its variance, to first order. Of
    # 90 independent scores of unit variance the mean is off by less than five
    # standard errors, and so is the standard deviation.
    bias = -found.standard_error.mean() / 2
    assert abs(z.mean() - bias) < 5 / np.sqrt(90)
    assert abs(z.std() - 1) < 5 / np.sqrt(2 * 90)
    assert (found.effective_sample_size <= samples * (1 + 1e-6)).all()
    single = [vae.evaluate(x, verbose=0, seed=s)[0] for s in range(20)]
    assert -np.mean(single) < found.log_likelihood.mean()


def test_wrong_use_is_refused(model):
    vae, x, _ = model
    for arguments in ({"num_samples": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            marginal_log_likelihood(vae, x, **arguments)
    with pytest.raises(ValueError, match="finite"):
        marginal_log_likelihood(vae, np.full_like(x, np.nan))
    with pytest.raises(ValueError, match="event shape"):
        marginal_log_likelihood(vae, x[..., None])
    doubles = marginal_log_likelihood(vae, x[:5].astype("float64"), 10)
    floats = marginal_log_likelihood(vae, x[:5], 10)
    np.testing.assert_array_equal(doubles.log_likelihood, floats.log_likelihood)


def test_batches_and_chunks_do_not_matter(model, monkeypatch):
    vae, x, exact = model
    monkeypatch.setattr("tfp_vae.evaluation._ROWS", 200)
    found = marginal_log_likelihood(vae, x, 2000, batch_size=50)
    assert found.log_likelihood.shape == (90,)
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.3)
    again = marginal_log_likelihood(vae, x, 2000, batch_size=50)
    np.testing.assert_array_equal(found.log_likelihood, again.log_likelihood)
