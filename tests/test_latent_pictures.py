"""A prior fitted after training, and pictures of the latent space."""

import keras
import matplotlib
import numpy as np
import pytest
from keras import ops
from sklearn.mixture import GaussianMixture

from tfp_vae import VAE, evaluation, plotting
from tfp_vae.layers import Head, IndependentNormal
from tfp_vae.substrate import tfd

RNG = np.random.default_rng(0)
CENTERS = np.array([[-2.0, 0.0], [2.0, 1.0], [0.0, -3.0]])
LABELS = np.arange(300) % 3
X = (CENTERS[LABELS] + 0.3 * RNG.normal(size=(300, 2))).astype("float32")


@keras.saving.register_keras_serializable("tests.pictures")
class Encoder(keras.layers.Layer):
    """z is x, nearly."""

    def call(self, x):
        return tfd.MultivariateNormalDiag(x, 0.01 * ops.ones_like(x))


@pytest.fixture(scope="module")
def vae():
    inputs = keras.Input((2,))
    decoder = keras.Model(inputs, Head(IndependentNormal((2,)))(inputs))
    model = VAE(Encoder(), decoder, seed=0)
    model(X[:2])
    return model


def test_the_mixture_is_that_of_scikit_learn(vae, tmp_path):
    prior = evaluation.aggregate_prior(vae, X, components=3, seed=0)
    found = ops.convert_to_numpy(prior.log_prob(X)).mean()
    oracle = GaussianMixture(3, n_init=3, random_state=0).fit(X).score(X)
    # Both stop early, by 1e-3 and 1e-4 nats; the draws differ from X by 0.01.
    assert found == pytest.approx(oracle, abs=0.02)
    means = ops.convert_to_numpy(prior.components_distribution.loc)
    for center in CENTERS:
        # 100 draws of spread 0.3: 5 standard errors.
        assert np.linalg.norm(means - center, axis=1).min() < 0.15
    vae.prior = prior
    better = vae.marginal_log_likelihood(X[:30], 10, seed=0)
    drawn = ops.convert_to_numpy(vae.sample(20, seed=0))
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    np.testing.assert_allclose(loaded.sample(20, seed=0), drawn, rtol=1e-5)
    vae.prior = None
    plain = vae.marginal_log_likelihood(X[:30], 10, seed=0)
    assert better.log_likelihood.mean() > plain.log_likelihood.mean() + 1
    with pytest.raises(ValueError, match="at most as many"):
        evaluation.aggregate_prior(vae, X[:2], components=3)


def test_pictures(vae):
    traversal = plotting.latent_traversal(vae, X[0], steps=5)
    assert len(traversal.axes) == 2 * 5
    (line,) = traversal.axes[7].lines
    z = np.array([[X[0, 0], 0.0]], "float32")
    expected = ops.convert_to_numpy(vae.decode(z).mean())[0]
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-5)
    arc = plotting.interpolation(vae, X[:1], X[1:2], steps=3, path="spherical")
    a, b = X[0], X[1]
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    angle = np.arccos(a @ b / lengths[0] / lengths[1])
    middle = (a + b) * np.sin(angle / 2) / np.sin(angle)
    expected = ops.convert_to_numpy(vae.decode(middle[None]).mean())[0]
    (line,) = arc.axes[1].lines
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-4)
    points = plotting.latent_map(vae, X, LABELS).axes[0].collections
    np.testing.assert_allclose(points[1].get_offsets(), X[LABELS == 1])
    image = plotting.latent_manifold(vae, side=3, image_shape=(1, 2))
    (shown,) = image.axes[0].images
    assert shown.get_array().shape == (3, 6)
    assert all(
        isinstance(f, matplotlib.figure.Figure) for f in (traversal, arc, image)
    )


def test_refusals(vae):
    with pytest.raises(ValueError, match="coordinates of z are 0 to 1"):
        plotting.latent_traversal(vae, coordinates=[2])
    with pytest.raises(ValueError, match="one label for each"):
        plotting.latent_map(vae, X, LABELS[:3])
    with pytest.raises(ValueError, match="two ends"):
        plotting.interpolation(vae, X[:1], X[:2])
    with pytest.raises(ValueError, match="image_shape"):
        plotting.latent_manifold(vae, side=2, image_shape=(5,))
