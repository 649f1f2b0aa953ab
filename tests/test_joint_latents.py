"""Joint latents: two levels, linear and Gaussian, of which all is known.

z2 ~ Normal(0, 1), z1 = z2 A + s1 e, x = z1 W + b + s e. The encoder is the
exact posterior: then each importance weight is p(x), whatever z.
"""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.stats import multivariate_normal

from tfp_vae import VAE, evaluation
from tfp_vae.layers import (
    Head,
    IndependentNormal,
    Joint,
    MultivariateNormalDiag,
    OverSamples,
)
from tfp_vae.objectives import (
    ELBO,
    IWAE,
    BetaTCVAE,
    InfoVAE,
    LinearWarmup,
    RenyiBound,
)
from tfp_vae.substrate import tfd

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
EXACT = multivariate_normal.logpdf(X.astype("float64"), B, COVARIANCE[-D:, -D:])


def conditional(of, given):
    """M, c and C of p(of|given) = Normal(given M + c, C)."""
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


@pytest.mark.parametrize(
    "objective",
    [
        ELBO(kl="monte_carlo"),
        IWAE(3, gradient="dreg"),
        RenyiBound(0.5, num_samples=2),
    ],
    ids=lambda objective: objective.name,
)
def test_each_bound_is_tight(objective):
    logs = model(objective=objective).evaluate(X, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(-EXACT.mean(), abs=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_each_weight_is_exact(form):
    vae = model(form, IWAE(2))
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
    samples = 20 if form == "auto_batched" else 2000
    logs = model(form, ELBO(num_samples=samples)).evaluate(
        X, verbose=0, return_dict=True
    )
    names = {"z2": "kl_z2", "z1": "kl_z1"}
    if form == "sequential":
        names = {"z2": "kl_0", "z1": "kl_1"}
    parts = {name: logs[log] for name, log in names.items()}
    assert sum(parts.values()) == pytest.approx(logs["kl"], rel=1e-5)
    if form == "auto_batched":  # by Monte Carlo, and slow
        return
    # 12,000 draws with a spread of some 3 nats: 5 standard errors are 0.15.
    assert logs["kl"] == pytest.approx(exact_kl(["z2", "z1"]), abs=0.15)
    assert -logs["loss"] == pytest.approx(EXACT.mean(), abs=0.15)
    if form != "bottom_up":
        assert parts["z2"] == pytest.approx(exact_kl(["z2"]), abs=0.1)


def test_exact_is_refused_where_it_would_be_wrong():
    with pytest.raises(NotImplementedError, match="in the order of the prior"):
        model("bottom_up", ELBO(kl="exact")).evaluate(X, verbose=0)
    model("top_down", ELBO(kl="exact")).evaluate(X, verbose=0)


@pytest.mark.parametrize("form", ["bottom_up", "sequential"])
def test_evaluation(form):
    vae = model(form)
    found = vae.predict(X, verbose=0)
    z = found["z_mean"]
    z2, z1 = (z["z2"], z["z1"]) if form == "bottom_up" else z
    for name, mean in (("z2", z2), ("z1", z1)):
        gain, shift, _ = conditional(name, ["x"])
        np.testing.assert_allclose(mean, X @ gain + shift, atol=1e-5)
    np.testing.assert_allclose(found["mean"], z1 @ W + B, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(vae.reconstruct(X)),
        found["mean"],
        rtol=1e-4,
        atol=1e-4,
    )
    assert found["kl"].mean() == pytest.approx(
        exact_kl(["z2", "z1"]),
        abs=1.5,  # 16 draws of each
    )
    # Moments of 4,000 draws: 5 standard errors of a covariance of some 10.
    drawn = ops.convert_to_numpy(vae.sample(4000, seed=0))
    np.testing.assert_allclose(drawn.mean(axis=0), B, atol=0.3)
    np.testing.assert_allclose(np.cov(drawn.T), COVARIANCE[-D:, -D:], atol=1.0)
    for refused in (evaluation.active_units, evaluation.kl_per_dimension):
        with pytest.raises(NotImplementedError, match="kl_<part>"):
            refused(vae, X)


def test_annealing():
    vae = model("bottom_up")
    annealed = evaluation.annealed_importance_sampling(
        vae, X, num_steps=150, initial="prior", seed=0
    )
    # 16 chains of 150 steps: their spread is some tenths of a nat.
    np.testing.assert_allclose(annealed.log_likelihood, EXACT, atol=0.7)
    bounds = evaluation.bidirectional_bounds(vae, X, num_steps=60, seed=0)
    assert (bounds.gap > -0.7).all()


# Networks that train.


def network(*layers, **options):
    return keras.Sequential([keras.layers.Dense(5, "tanh"), *layers], **options)


def trainable(functional=False, **options):
    """Burda's: bottom-up posterior, top-down prior, as plain networks."""
    encoder = Joint(
        {
            "z1": network(Head(MultivariateNormalDiag(L1))),
            "z2": network(Head(MultivariateNormalDiag(L2))),
        }
    )
    prior = Joint(
        {
            "z2": tfd.MultivariateNormalDiag(ops.zeros(L2), ops.ones(L2)),
            "z1": network(Head(MultivariateNormalDiag(L1))),
        }
    )
    z1 = keras.Input((L1,), name="z1")
    decoder = keras.Model(z1, Head(IndependentNormal(D))(z1))
    if functional:
        x = keras.Input((D,))
        encoder = keras.Model(x, encoder(x))
    vae = VAE(encoder, decoder, prior, seed=0, **options)
    vae.compile(keras.optimizers.Adam(1e-2))
    return vae


@pytest.mark.parametrize("functional", [False, True])
def test_training_saving_and_loading(functional, tmp_path):
    objective = ELBO(
        beta={"z1": LinearWarmup(4), "z2": 1.0},
        free_bits={"z1": 0.1, "z2": 0.0},
        num_samples=2,
    )
    vae = trainable(functional, objective=objective)
    assert vae.built == functional
    logs = vae.fit(X, epochs=2, batch_size=3, verbose=0).history
    assert {"kl", "kl_z1", "kl_z2", "beta_z1"} <= logs.keys()
    np.testing.assert_allclose(
        np.add(logs["kl_z1"], logs["kl_z2"]), logs["kl"], rtol=1e-5
    )
    assert logs["beta_z1"] == [0.125, 0.625]
    before = vae.evaluate(X, verbose=0)
    vae.save(tmp_path / "vae.keras")
    loaded = keras.saving.load_model(tmp_path / "vae.keras")
    np.testing.assert_allclose(loaded.evaluate(X, verbose=0), before, rtol=1e-5)
    found = vae.predict(X, verbose=0)
    for name, mean in loaded.predict(X, verbose=0)["z_mean"].items():
        np.testing.assert_allclose(mean, found["z_mean"][name], rtol=1e-5)
    loaded.fit(X, epochs=1, verbose=0)
    assert loaded.sample(3).shape == (3, D)


def test_training_moves_all_parts():
    vae = trainable()
    vae(X)
    before = [ops.convert_to_numpy(w) for w in vae.trainable_variables]
    vae.fit(X, epochs=1, verbose=0)
    for old, new in zip(before, vae.trainable_variables, strict=True):
        new = ops.convert_to_numpy(new)
        assert np.isfinite(new).all()
        assert (new != old).any(), new.shape


@pytest.mark.parametrize(
    "objective", [ELBO(gradient="stl"), IWAE(3, gradient="dreg")]
)
@pytest.mark.parametrize("form", ["top_down", "bottom_up"])
def test_no_noise_is_left_at_the_exact_posterior(form, objective):
    """All parameters of the posterior act through the draws alone."""
    vae = model(form, objective)
    vae.compile(keras.optimizers.SGD(1.0))
    vae.fit(X, epochs=1, verbose=0)
    # Rounding of sums of some tens of numbers; 0.1 to 1 with "standard".
    offset = ops.convert_to_numpy(vae.encoder.offset)
    np.testing.assert_allclose(offset, 0.0, atol=2e-5)


@keras.saving.register_keras_serializable("tests.joint")
class ByName(keras.layers.Layer):
    """A decoder that asks for parts, and for a condition."""

    def call(self, z1, label, z2=None):
        assert z2 is not None
        mean = ops.concatenate([z1, z2[..., :1]], -1) + label[:, None]
        return tfd.Independent(tfd.Normal(mean, 1.0), 1)


def test_conditions_gaps_and_a_discrepancy():
    x = np.array(X)
    x[0, 0] = np.nan
    data = {"x": x, "label": np.arange(6, dtype="float32")}
    encoder, prior = trainable().encoder, trainable().prior
    vae = VAE(
        encoder,
        ByName(),
        prior,
        objective=InfoVAE(lambda_=2.0, num_samples=2),
        missing_values=np.nan,
    )
    vae.compile("adam")
    logs = vae.fit(data, epochs=1, verbose=0).history
    assert np.isfinite([logs[n][0] for n in ("loss", "mmd", "kl_z1")]).all()
    filled = vae.impute(data, num_samples=20)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[1:], X[1:])
    assert vae.sample(2, label=1.0).shape == (2, D)


def terms_of(encoder=None, decoder=None, prior=None, objective=None):
    vae = VAE(
        encoder or Encoder(),
        decoder or Decoder(),
        prior or Prior(),
        objective=objective,
    )
    return vae.compute_terms(X, vae(X))


def test_refusals():
    def of(**parts):
        class Other(keras.layers.Layer):
            def call(self, x=None):
                return tfd.JointDistributionNamed(parts)

        return Other()

    unit = tfd.MultivariateNormalDiag(ops.zeros(L2), ops.ones(L2))
    with pytest.raises(ValueError, match="parts of the same names"):
        terms_of(prior=of(z2=unit, z3=unit))
    with pytest.raises(ValueError, match="of the part 'z1' a posterior over"):
        terms_of(prior=of(z2=unit, z1=unit))
    with pytest.raises(ValueError, match="both joint distributions"):
        terms_of(prior=unit)
    with pytest.raises(ValueError, match="a dict of one for each"):
        terms_of(objective=ELBO(beta={"z1": 1.0}))
    with pytest.raises(NotImplementedError, match="Total correlation"):
        terms_of(objective=BetaTCVAE(6))
    unnamed = keras.Sequential([keras.Input((L1,)), Head(IndependentNormal(D))])
    with pytest.raises(ValueError, match="names the parts of z"):
        terms_of(decoder=unnamed)

    class Rigid(keras.layers.Layer):
        def __init__(self, wrap=lambda network: network):
            super().__init__()
            z2 = keras.Input((L2,))
            head = Head(MultivariateNormalDiag(L1))
            self.network = wrap(keras.Model(z2, head(z2)))
            self.built = True

        def call(self, x=None):
            return tfd.JointDistributionNamed(
                {"z2": unit, "z1": lambda z2: self.network(z2)}
            )

    terms_of(prior=Rigid())
    with pytest.raises(ValueError, match="OverSamples"):
        terms_of(prior=Rigid(), objective=IWAE(2))
    terms = terms_of(prior=Rigid(OverSamples), objective=IWAE(2))
    assert np.isfinite(ops.convert_to_numpy(terms.objective)).all()
    dense = keras.layers.Dense(L1)
    for joint in (
        tfd.JointDistributionNamed(
            {"z2": unit, "z1": lambda z2: tfd.Normal(dense(z2), 1.0)}
        ),
        tfd.JointDistributionSequential(
            [unit, lambda z2: tfd.Normal(dense(z2), 1.0)]
        ),
    ):
        with pytest.raises(ValueError, match="does not see the layers"):
            VAE(Encoder(), Decoder(), joint)
