"""Joint latents: two levels, linear and Gaussian, of which all is known.

z2 ~ Normal(0, 1), z1 = z2 A + s1 e, x = z1 W + b + s e. The encoder is the exact
posterior: then each importance weight is p(x), whatever z.
"""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.stats import multivariate_normal
from support import numpy

from tfp_vae import VAE, evaluation
from tfp_vae.layers import Head, MultivariateNormalDiag
from tfp_vae.objectives import (
    ELBO,
    IWAE,
    BetaTCVAE,
    InfoVAE,
    LinearWarmup,
    RenyiBound,
)
from tfp_vae.substrate import tfd, tfp_seed

L2, L1, D = 2, 3, 4
S1, S = 0.8, 0.7
RNG = np.random.default_rng(5)
A, W, B = (RNG.normal(size=shape) for shape in ((L2, L1), (L1, D), (D,)))

# The joint Gaussian of (z2, z1, x), in float64.
COVARIANCE = np.zeros((L2 + L1 + D, L2 + L1 + D))
_TO = np.concatenate([np.eye(L2), A, A @ W], axis=1)
_OWN = np.concatenate([np.zeros((L1, L2)), S1 * np.eye(L1), S1 * W], axis=1)
COVARIANCE = _TO.T @ _TO + _OWN.T @ _OWN
COVARIANCE[-D:, -D:] += S**2 * np.eye(D)
MEAN = np.concatenate([np.zeros(L2 + L1), B])
PLACES = {"z2": slice(0, L2), "z1": slice(L2, L2 + L1), "x": slice(-D, None)}

X = RNG.multivariate_normal(MEAN, COVARIANCE, 6)[:, -D:].astype("float32")
EXACT = multivariate_normal.logpdf(
    X.astype("float64"), B, COVARIANCE[-D:, -D:]
)


def conditional(of, given):
    """Matrices of p(of|given) = Normal(given M + c, L L'), and its covariance."""
    i = np.r_[PLACES[of]] if isinstance(of, str) else of
    rows = np.arange(len(MEAN))
    i = rows[PLACES[of]]
    j = np.concatenate([rows[PLACES[name]] for name in given])
    gain = np.linalg.solve(COVARIANCE[np.ix_(j, j)], COVARIANCE[np.ix_(j, i)])
    left = COVARIANCE[np.ix_(i, i)] - COVARIANCE[np.ix_(i, j)] @ gain
    return gain, MEAN[i] - MEAN[j] @ gain, left


def normal(of, given, values, name=None):
    """p(of|given), as TFP has it, at values of any leading dimensions."""
    gain, shift, covariance = conditional(of, given)
    mean, start = shift.astype("float32"), 0
    for value in values:
        end = start + value.shape[-1]
        mean = mean + ops.matmul(value, gain[start:end].astype("float32"))
        start = end
    scale = np.linalg.cholesky(covariance).astype("float32")
    name = name or "MultivariateNormalTriL"
    return tfd.MultivariateNormalTriL(mean, scale, name=name)


def top_down(x):
    return tfd.JointDistributionNamed(
        {
            "z2": normal("z2", ["x"], [x]),
            "z1": lambda z2: normal("z1", ["z2", "x"], [z2, x]),
        }
    )


def bottom_up(x):
    return tfd.JointDistributionNamed(
        {
            "z1": normal("z1", ["x"], [x]),
            "z2": lambda z1: normal("z2", ["z1"], [z1]),
        }
    )


def coroutine(x):
    def model():
        root = tfd.JointDistributionCoroutine.Root
        z2 = yield root(normal("z2", ["x"], [x], "z2"))
        yield normal("z1", ["z2", "x"], [z2, x], "z1")

    return tfd.JointDistributionCoroutine(model)


def sequential(x):
    return tfd.JointDistributionSequential(
        [
            normal("z2", ["x"], [x]),
            lambda z2: normal("z1", ["z2", "x"], [z2, x]),
        ]
    )


def auto_batched(x):
    return tfd.JointDistributionNamedAutoBatched(
        {
            "z2": normal("z2", ["x"], [x]),
            "z1": lambda z2: normal("z1", ["z2", "x"], [z2, x]),
        },
        batch_ndims=1,
    )


FORMS = {
    f.__name__: f
    for f in (top_down, bottom_up, coroutine, sequential, auto_batched)
}


@keras.saving.register_keras_serializable("tests.joint")
class Encoder(keras.layers.Layer):
    """The exact posterior, with an offset of z1 and z2 that trains."""

    def __init__(self, form="top_down", **kwargs):
        super().__init__(**kwargs)
        self.form = form
        self.offset = self.add_weight(shape=(D,), initializer="zeros")
        self.built = True

    def call(self, x):
        return FORMS[self.form](x + self.offset)

    def get_config(self):
        return {**super().get_config(), "form": self.form}


def _p(z2, loc, scale):
    return tfd.MultivariateNormalDiag(loc, scale * ops.ones(loc.shape[-1]))


@keras.saving.register_keras_serializable("tests.joint")
class Prior(keras.layers.Layer):
    """p(z2) p(z1|z2)."""

    def __init__(self, is_tuple=False, **kwargs):
        super().__init__(**kwargs)
        self.is_tuple = is_tuple

    def call(self, inputs=None):
        a = A.astype("float32")
        z2 = tfd.MultivariateNormalDiag(ops.zeros(L2), ops.ones(L2))

        def z1(z2):
            return tfd.MultivariateNormalDiag(
                ops.matmul(z2, a), S1 * ops.ones(L1)
            )

        if self.is_tuple:
            return tfd.JointDistributionSequential([z2, z1])
        return tfd.JointDistributionNamed({"z2": z2, "z1": z1})

    def get_config(self):
        return {**super().get_config(), "is_tuple": self.is_tuple}


@keras.saving.register_keras_serializable("tests.joint")
class Decoder(keras.layers.Layer):
    """p(x|z1), whatever else z has."""

    def call(self, z):
        z1 = z["z1"] if isinstance(z, dict) else z[1]
        mean = ops.matmul(z1, W.astype("float32")) + B.astype("float32")
        return tfd.Independent(tfd.Normal(mean, S), 1)


def model(form="top_down", objective=None):
    vae = VAE(
        Encoder(form),
        Decoder(),
        Prior(form == "sequential"),
        objective=objective,
        seed=0,
    )
    vae.compile("sgd")
    return vae


# Float32 in sums of numbers of order 10: 1e-4.


@pytest.mark.parametrize("form", FORMS)
def test_each_weight_is_exact(form):
    for objective in (
        ELBO(kl="monte_carlo"),
        IWAE(3),
        IWAE(3, gradient="dreg"),
        RenyiBound(0.5, num_samples=2),
    ):
        logs = model(form, objective).evaluate(X, verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(-EXACT.mean(), abs=1e-4)
    vae = model(form)
    found = vae.marginal_log_likelihood(X, num_samples=25, seed=0)
    np.testing.assert_allclose(found.log_likelihood, EXACT, atol=1e-4)


def exact_kl(parts):
    """The mean over X of KL(q(parts|x) || p(parts)), in float64."""
    i = np.concatenate([np.arange(len(MEAN))[PLACES[n]] for n in parts])
    j = np.arange(len(MEAN))[PLACES["x"]]
    gain = np.linalg.solve(COVARIANCE[np.ix_(j, j)], COVARIANCE[np.ix_(j, i)])
    q = COVARIANCE[np.ix_(i, i)] - COVARIANCE[np.ix_(i, j)] @ gain
    p = COVARIANCE[np.ix_(i, i)]
    mean = (X - B) @ gain
    trace = np.trace(np.linalg.solve(p, q))
    squares = np.einsum("ni,ij,nj->n", mean, np.linalg.inv(p), mean)
    logs = np.linalg.slogdet(p)[1] - np.linalg.slogdet(q)[1]
    return 0.5 * (trace + squares - len(i) + logs).mean()


@pytest.mark.parametrize("form", FORMS)
def test_kl_of_each_part(form):
    """Also bottom-up, where a closed form of z1 would be wrong."""
    samples = 2000
    logs = model(form, ELBO(num_samples=samples)).evaluate(
        X, verbose=0, return_dict=True
    )
    names = {"z2": "kl_z2", "z1": "kl_z1"}
    if form == "sequential":
        names = {"z2": "kl_0", "z1": "kl_1"}
    parts = {name: logs[log] for name, log in names.items()}
    assert sum(parts.values()) == pytest.approx(logs["kl"], rel=1e-5)
    # 12,000 draws with a spread of some 3 nats: 5 standard errors are 0.15.
    assert logs["kl"] == pytest.approx(exact_kl(["z2", "z1"]), abs=0.15)
    assert -logs["loss"] == pytest.approx(EXACT.mean(), abs=0.15)
    if form != "bottom_up":
        assert parts["z2"] == pytest.approx(exact_kl(["z2"]), abs=0.1)


def test_exact_is_refused_where_it_would_be_wrong():
    with pytest.raises(NotImplementedError, match="in the order of the prior"):
        model("bottom_up", ELBO(kl="exact")).evaluate(X, verbose=0)
    model("top_down", ELBO(kl="exact")).evaluate(X, verbose=0)
