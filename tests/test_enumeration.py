"""The exact expectation over a discrete posterior."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import logsumexp, softmax
from scipy.stats import norm

from tfp_vae import ELBO, VAE
from tfp_vae.layers import OneHotCategorical
from tfp_vae.substrate import tfd

# What TFP's draws of classes say on JAX.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Explicitly requested dtype .*int64"
)

K, D = 3, 2
RNG = np.random.default_rng(2)
MEANS = RNG.normal(size=(K, D)).astype("float32")
LOGITS = RNG.normal(size=(D, K)).astype("float32")
X = RNG.normal(size=(5, D)).astype("float32")
LOG_LIKELIHOOD = norm.logpdf(X[:, None], MEANS, 1.0).sum(-1)  # [B, K]


@keras.saving.register_keras_serializable("tests.enumeration")
class Decoder(keras.layers.Layer):
    """A mixture of Gaussians."""

    def call(self, z):
        if "int" in keras.backend.standardize_dtype(z.dtype):
            z = ops.one_hot(z, K)
        return tfd.Independent(tfd.Normal(ops.matmul(z, MEANS), 1.0), 1)


@keras.saving.register_keras_serializable("tests.enumeration")
class Classes(keras.layers.Layer):
    """A Categorical posterior, whose logits may be the exact ones."""

    def __init__(self, exact=False, **kwargs):
        super().__init__(**kwargs)
        self.exact = exact
        self.bias = self.add_weight(shape=(K,), initializer="zeros")
        self.built = True

    def call(self, x):
        logits = ops.matmul(x, LOGITS) + self.bias
        if self.exact:
            # log p(x|z), up to what is the same for all z.
            squares = ops.sum(MEANS**2, -1) / 2
            logits = ops.matmul(x, MEANS.T) - squares + self.bias
        return tfd.Categorical(logits=logits)

    def get_config(self):
        return {**super().get_config(), "exact": self.exact}


def one_hot():
    encoder = keras.Sequential(
        [keras.Input((D,)), keras.layers.Dense(K), OneHotCategorical(K)]
    )
    encoder.layers[0].set_weights([LOGITS, np.zeros(K, "float32")])
    return encoder


# Float32: 1e-5 of numbers of order 1.


@pytest.mark.parametrize("make", [one_hot, Classes])
def test_it_is_the_sum_over_the_classes(make, tmp_path):
    vae = VAE(make(), Decoder(), objective=ELBO(enumerate=True), seed=0)
    vae.compile(keras.optimizers.SGD(0.1))
    q = softmax(X @ LOGITS, axis=1)
    kl = (q * (np.log(q) + np.log(K))).sum(1).mean()
    likelihood = (q * LOG_LIKELIHOOD).sum(1).mean()
    logs = vae.evaluate(X, verbose=0, return_dict=True)
    expected = {
        "kl": kl,
        "log_likelihood": likelihood,
        "loss": kl - likelihood,
    }
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, abs=1e-5), name
    vae.fit(X, epochs=1, verbose=0)
    after = vae.evaluate(X, verbose=0, return_dict=True)
    assert after["loss"] < logs["loss"]
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    again = loaded.evaluate(X, verbose=0, return_dict=True)
    assert again == pytest.approx(after)
    assert loaded.sample(4).shape == (4, D)


def test_it_is_tight_and_flat_at_the_exact_posterior():
    vae = VAE(Classes(True), Decoder(), objective=ELBO(enumerate=True))
    vae.compile(keras.optimizers.SGD(1.0))
    exact = logsumexp(LOG_LIKELIHOOD, axis=1) - np.log(K)
    loss = vae.evaluate(X, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(-exact.mean(), abs=1e-5)
    vae.fit(X, epochs=1, verbose=0)
    bias = ops.convert_to_numpy(vae.encoder.bias)
    np.testing.assert_allclose(bias, 0.0, atol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="draws none"):
        ELBO(enumerate=True, num_samples=2)
    vae = VAE(one_hot(), Decoder())
    with pytest.raises(ValueError, match="enumerate=True"):
        vae(X, training=True)
