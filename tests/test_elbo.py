"""The ELBO layer against numpy in float64, and against known evidence."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracles import huber_energy, huber_log_z
from support import BACKEND, fast, float64, numpy

from tfp_vae import ELBO
from tfp_vae.distributions import Huber
from tfp_vae.substrate import tfd, tfp_seed

event_shapes = st.lists(st.integers(1, 4), min_size=0, max_size=3).map(tuple)


def huber_logpdf(x, loc, scale, delta):
    return -huber_energy((x - loc) / scale, delta) - (
        np.log(scale) + huber_log_z(delta)
    )


LIKELIHOODS = {
    "bernoulli": (
        lambda a, b: tfd.Bernoulli(logits=a, dtype="float32"),
        lambda x, a, b: x * a - np.logaddexp(0, a),
    ),
    "normal": (tfd.Normal, scipy.stats.norm.logpdf),
    "huber": (
        lambda a, b: Huber(a, b, 1.345),
        lambda x, a, b: huber_logpdf(x, a, b, 1.345),
    ),
}


def draw(rng, likelihood, event_shape, batch, latent):
    """Parameters of a whole step, in float32."""
    shape = (batch, *event_shape)
    x = rng.normal(size=shape)
    if likelihood == "bernoulli":
        x = x > 0
    values = {
        "x": x,
        "a": rng.normal(size=shape),
        "b": rng.uniform(0.3, 3, size=shape),
        "loc": rng.normal(size=(batch, latent)),
        "scale": rng.uniform(0.3, 2, size=(batch, latent)),
        "z": rng.normal(size=(batch, latent)),
    }
    return {k: v.astype("float32") for k, v in values.items()}


def distributions(likelihood, v, event_shape):
    make, _ = LIKELIHOODS[likelihood]
    return {
        "posterior": tfd.MultivariateNormalDiag(v["loc"], v["scale"]),
        "likelihood": tfd.Independent(make(v["a"], v["b"]), len(event_shape)),
        "z": ops.convert_to_tensor(v["z"]),
    }


@given(
    likelihood=st.sampled_from(sorted(LIKELIHOODS)),
    event_shape=event_shapes,
    batch=st.integers(1, 6),
    latent=st.integers(1, 4),
    beta=st.floats(0, 10),
    kl=st.sampled_from(["auto", "exact", "monte_carlo"]),
    seed=st.integers(0, 2**16),
)
def test_terms_by_hand(likelihood, event_shape, batch, latent, beta, kl, seed):
    rng = np.random.default_rng(seed)
    v = draw(rng, likelihood, event_shape, batch, latent)

    @fast
    def terms_of(v):
        terms = ELBO(beta=beta, kl=kl)(
            ops.convert_to_tensor(v["x"]),
            **distributions(likelihood, v, event_shape),
        )
        return terms.log_likelihood, terms.kl, terms.objective

    terms = terms_of(v)
    v = {k: a.astype("float64") for k, a in v.items()}
    _, log_density = LIKELIHOODS[likelihood]
    each = log_density(v["x"], v["a"], v["b"]).reshape(batch, -1)
    log_likelihood = each.sum(1)
    if kl == "monte_carlo":
        q = scipy.stats.norm.logpdf(v["z"], v["loc"], v["scale"])
        p = scipy.stats.norm.logpdf(v["z"])
        divergence, size = (q - p).sum(1), (abs(q) + abs(p)).sum(1)
    else:
        squares, logs = v["scale"] ** 2 + v["loc"] ** 2, np.log(v["scale"])
        divergence = ((squares - 1) / 2 - logs).sum(1)
        size = ((squares + 1) / 2 + abs(logs)).sum(1)
    # 1e-5 of the sum of absolute terms: terms may cancel, roundings do not.
    slack = 1e-5 * np.abs(each).sum(1) + 1e-5
    slack_kl = 1e-5 * size
    objective = log_likelihood - beta * divergence
    for found, expected, error in (
        (terms[0], log_likelihood, slack),
        (terms[1], divergence, slack_kl),
        (terms[2], objective, slack + beta * slack_kl),
    ):
        assert tuple(found.shape) == (batch,)
        assert (np.abs(numpy(found) - expected) <= error).all()
    loss = -numpy(terms[2]).mean()
    assert abs(loss + objective.mean()) <= (slack + beta * slack_kl).mean()


def test_swapping_the_likelihood_leaves_the_kl_untouched():
    rng = np.random.default_rng(0)
    v = draw(rng, "normal", (3,), 4, 2)
    kls = [
        numpy(
            ELBO()(
                ops.convert_to_tensor(np.float32(v["x"] > 0)),
                **distributions(name, v, (3,)),
            ).kl
        )
        for name in LIKELIHOODS
    ]
    np.testing.assert_array_equal(kls[0], kls[1])
    np.testing.assert_array_equal(kls[0], kls[2])


class LinearGaussian:
    """x = W z + mu + noise: the evidence and posterior are known."""

    def __init__(self, rng, data=5, latent=2, noise=0.7):
        self.w = rng.normal(size=(data, latent))
        self.mu = rng.normal(size=data)
        self.noise = noise
        self.x = rng.normal(size=(7, data)) * 2

    def evidence(self):
        covariance = self.w @ self.w.T + self.noise**2 * np.eye(len(self.mu))
        return scipy.stats.multivariate_normal.logpdf(
            self.x, self.mu, covariance
        )

    def posterior(self):
        precision = np.eye(self.w.shape[1]) + self.w.T @ self.w / self.noise**2
        covariance = np.linalg.inv(precision)
        loc = (self.x - self.mu) @ self.w @ covariance / self.noise**2
        return loc, np.linalg.cholesky(covariance)


@pytest.mark.parametrize(
    ("kl", "samples"),
    [("exact", 64), ("monte_carlo", None), ("monte_carlo", 64)],
)
def test_bound_on_a_linear_gaussian_model(kl, samples):
    """At the true posterior it is the evidence, elsewhere lower by the KL."""
    model = LinearGaussian(np.random.default_rng(1))
    loc, tril = model.posterior()
    with float64():
        gaps = []
        for worse in (1.0, 1.7):
            q = tfd.MultivariateNormalTriL(
                loc, worse * np.tile(tril, (7, 1, 1))
            )
            shape = () if samples is None else (samples,)
            z = q.sample(shape, seed=tfp_seed(0))
            p = tfd.Independent(
                tfd.Normal(z @ model.w.T + model.mu, model.noise), 1
            )
            terms = ELBO(kl=kl, dtype="float64")(
                ops.convert_to_tensor(model.x), posterior=q, likelihood=p, z=z
            )
            gaps.append(model.evidence() - numpy(terms.objective))
    if kl == "monte_carlo":
        # log p(x|z) p(z) / q(z|x) is constant in z at the true posterior.
        np.testing.assert_allclose(gaps[0], 0, atol=1e-10)
    elif samples:
        assert abs(gaps[0].mean()) < 0.4  # five standard errors
    if samples:
        # KL(q || true) = the excess of q's covariance: 2 dimensions.
        exact = (1.7**2 - 1) - 2 * np.log(1.7)
        assert gaps[1].mean() == pytest.approx(exact, abs=0.4)
        assert gaps[1].mean() > gaps[0].mean()


@pytest.mark.parametrize("flat", [True, False])
def test_samples_are_averaged(flat):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 3)).astype("float32")
    loc = rng.normal(size=(5, 4, 3)).astype("float32")
    z = rng.normal(size=(5, 4, 2)).astype("float32")
    p = tfd.Independent(tfd.Normal(loc.reshape(20, 3) if flat else loc, 1.0), 1)
    q = tfd.MultivariateNormalDiag(np.zeros((4, 2), "float32"), np.ones(2, "f"))
    terms = ELBO(num_samples=5)(x, posterior=q, likelihood=p, z=z)
    np.testing.assert_allclose(
        numpy(terms.log_likelihood),
        scipy.stats.norm.logpdf(x, loc).sum(-1).mean(0),
        rtol=1e-5,
    )


def test_free_bits_against_numpy():
    """Kingma et al. 2016, equation 15."""
    rng = np.random.default_rng(4)
    v = draw(rng, "normal", (3,), 6, 4)
    v["loc"][:, 0] = 0.01
    v["scale"][:, 0] = 1.0  # a coordinate that carries nothing
    terms = ELBO(free_bits=0.5, beta=2.0)(
        v["x"], **distributions("normal", v, (3,))
    )
    loc, scale = v["loc"].astype("float64"), v["scale"].astype("float64")
    each = (scale**2 + loc**2 - 1 - 2 * np.log(scale)) / 2
    penalty = np.maximum(each.mean(0), 0.5).sum()
    np.testing.assert_allclose(numpy(terms.kl), each.sum(1), rtol=1e-5)
    np.testing.assert_allclose(
        numpy(terms.objective),
        numpy(terms.log_likelihood) - 2 * penalty,
        rtol=1e-5,
    )


@keras.saving.register_keras_serializable("tests")
def warm_up(step):
    return ops.minimum(step / 4.0, 1.0)


def test_beta_may_be_a_function_of_the_step():
    v = draw(np.random.default_rng(5), "normal", (3,), 2, 2)
    elbo = ELBO(beta=warm_up)
    betas = []
    for training in (True, True, False, True, True, True, True):
        terms = elbo(
            v["x"], **distributions("normal", v, (3,)), training=training
        )
        beta = (terms.log_likelihood - terms.objective) / terms.kl
        betas.append(float(numpy(beta)[0]))
    np.testing.assert_allclose(
        betas, [0, 0.25, 0.5, 0.5, 0.75, 1, 1], atol=1e-5
    )
    again = ELBO.from_config(elbo.get_config())
    assert again.beta is warm_up


def test_integer_data_are_cast():
    x = np.array([[0, 255, 3]], "uint8")
    q = tfd.MultivariateNormalDiag(np.zeros((1, 2), "f"), np.ones(2, "f"))
    p = tfd.Independent(tfd.Poisson(np.float32([[1.0, 200.0, 3.0]])), 1)
    terms = ELBO()(ops.convert_to_tensor(x), posterior=q, likelihood=p)
    np.testing.assert_allclose(
        numpy(terms.log_likelihood),
        scipy.stats.poisson.logpmf(x, [[1.0, 200.0, 3.0]]).sum(),
        rtol=1e-5,
    )


X = np.zeros((4, 28, 28, 1), "float32")


def normal(*shape, event=None):
    base = tfd.Normal(np.zeros(shape, "float32"), 1.0)
    return base if event is None else tfd.Independent(base, event)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"likelihood": normal(4, 784, event=1)},
            ValueError,
            r"event shape \(784,\).*examples of shape \(28, 28, 1\)"
            r".*event_shape=\(28, 28, 1\)",
        ),
        (
            {"likelihood": normal(4, 28, 28, 1)},
            ValueError,
            r"3 batch dimensions left over.*tfd.Independent\(likelihood, "
            r"reinterpreted_batch_ndims=3\)",
        ),
        (
            {"likelihood": normal(4, 28, 28, 1, event=2)},
            ValueError,
            "1 batch dimension left over.*ndims=1",
        ),
        (
            {"likelihood": normal(3, 28, 28, 1, event=3)},
            ValueError,
            r"batch shape \(3,\) for 4 examples",
        ),
        (
            {"likelihood": normal(28, 28, 1, event=3)},
            ValueError,
            r"batch shape \(\)",
        ),
        (
            {"posterior": normal(4, 2)},
            ValueError,
            "posterior has 1 batch dimension left over",
        ),
        (
            {"prior": normal(3, event=1)},
            ValueError,
            r"a posterior over \(2,\).*a prior over \(3,\)",
        ),
        ({"prior": normal(4, 4, 2, event=1)}, ValueError, "prior has 1 batch"),
        (
            {"z": np.zeros((4, 3), "float32")},
            ValueError,
            r"z of shape \(4, 3\)",
        ),
        (
            {"likelihood": np.zeros((4, 28, 28, 1), "float32")},
            TypeError,
            r"a tensor of shape \(4, 28, 28, 1\)",
        ),
        ({"posterior": 3}, TypeError, "Received: int"),
        (
            {
                "posterior": tfd.Independent(
                    tfd.StudentT(3.0, np.zeros((4, 2), "f"), 1.0), 1
                ),
                "z": None,
            },
            ValueError,
            "z=posterior.sample",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message):
    good = {
        "posterior": normal(4, 2, event=1),
        "likelihood": normal(4, 28, 28, 1, event=3),
        "z": np.zeros((4, 2), "float32"),
    }
    ELBO()(X, **good)
    with pytest.raises(error, match=message):
        ELBO()(X, **{**good, **arguments})


def test_unknown_kl_and_dtypes_are_refused():
    q = tfd.Independent(tfd.StudentT(3.0, np.zeros((4, 2), "f"), 1.0), 1)
    p = normal(4, 28, 28, 1, event=3)
    with pytest.raises(NotImplementedError, match='kl="monte_carlo"'):
        ELBO(kl="exact")(X, posterior=q, likelihood=p)
    with float64():
        x = ops.convert_to_tensor(X.astype("float64"))
        with pytest.raises(ValueError, match="data of float64.*of float32"):
            ELBO()(x, posterior=normal(4, 2, event=1), likelihood=p)


def test_a_density_that_forgets_to_sum_is_refused():
    class Forgetful(tfd.Distribution):
        def __init__(self):
            super().__init__(
                dtype=np.float32,
                reparameterization_type=tfd.FULLY_REPARAMETERIZED,
                validate_args=False,
                allow_nan_stats=True,
                parameters={},
            )

        def _batch_shape(self):
            return tfd.Normal(np.zeros(4, "f"), 1.0).batch_shape

        def _event_shape(self):
            return normal(28, 28, 1, event=3).event_shape

        def _log_prob(self, x):
            return -ops.square(x)

    with pytest.raises(ValueError, match="sums over its event dimensions"):
        ELBO()(X, posterior=normal(4, 2, event=1), likelihood=Forgetful())


@pytest.mark.parametrize(
    "arguments",
    [
        {"beta": -1.0},
        {"beta": float("nan")},
        {"kl": "analytic"},
        {"num_samples": 0},
        {"num_samples": 1.5},
        {"free_bits": -0.1},
    ],
)
def test_arguments_are_checked(arguments):
    with pytest.raises(ValueError, match="Received: "):
        ELBO(**arguments)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_a_model_of_the_users_own(jit_compile):
    """`fit` of a subclass, and a hand-written loop, agree with each other."""
    from tfp_vae import layers

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(4, kernel_initializer="ones")
            self.posterior = layers.MultivariateNormalDiag(2)
            self.decoder = keras.layers.Dense(3, kernel_initializer="ones")
            self.likelihood = layers.IndependentNormal(3, scale=1.0)
            self.elbo = ELBO()

        def call(self, x):
            q = self.posterior(self.head(x))
            z = q.mean()
            return q, z, self.likelihood(self.decoder(z))

        def compute_loss(
            self, x=None, y=None, y_pred=None, sample_weight=None, training=True
        ):
            q, z, p = y_pred
            terms = self.elbo(x, posterior=q, likelihood=p, z=z)
            return -ops.mean(terms.objective)

    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    own = Own()
    own(x)
    own.compile(keras.optimizers.SGD(0.01), jit_compile=jit_compile)
    history = own.fit(x, batch_size=8, epochs=3, verbose=0).history["loss"]
    assert history[2] < history[0]

    other = Own()
    other(x)
    optimizer = keras.optimizers.SGD(0.01)
    optimizer.build(other.trainable_variables)
    losses = []
    for _ in range(3):
        if BACKEND == "jax":
            import jax

            def objective(trainable):
                out, _ = other.stateless_call(trainable, [], x)
                return other.compute_loss(x, None, out)

            weights = [v.value for v in other.trainable_variables]
            loss, grads = jax.value_and_grad(objective)(weights)
        else:
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = other.compute_loss(x, None, other(x))
            grads = tape.gradient(loss, other.trainable_variables)
        optimizer.apply(grads, other.trainable_variables)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, history, rtol=1e-5)
