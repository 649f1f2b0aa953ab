"""Data with gaps: densities of the observed elements, and imputation."""

import itertools

import hypothesis
import keras
import linear
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops
from scipy.stats import multivariate_normal, norm, poisson
from support import BACKEND, fast, gradients, numpy

from tfp_vae import VAE, evaluation, layers
from tfp_vae.distributions import Composite
from tfp_vae.distributions.observed import Observed, is_missing
from tfp_vae.objectives import ELBO, IWAE, MMD, BetaTCVAE, RenyiBound
from tfp_vae.substrate import tfd

NAN = np.nan
X, _ = linear.data()
EXACT = linear.log_prob(X, np.tile(linear.B, (len(X), 1)))


@pytest.fixture(scope="module")
def vae():
    model = VAE(linear.Encoder(), linear.Decoder(), missing_values=NAN, seed=0)
    model.compile("sgd")
    return model


# The model in which everything is known. Float32: 1e-4 of numbers of order 10.


def test_marginal_log_likelihood_is_exact(vae):
    found = vae.marginal_log_likelihood(X, num_samples=25, seed=0)
    np.testing.assert_allclose(found.log_likelihood, EXACT, atol=1e-4)
    assert found.log_likelihood[0] == pytest.approx(0.0, abs=1e-5)
    assert (found.standard_error < 1e-4).all()


def test_bounds_are_exact(vae):
    # With the exact posterior every importance weight is p(x), and the bound
    # too.
    elbo = vae.evaluate(X, verbose=0, return_dict=True)["loss"]
    many = evaluation.rate_distortion(vae, X, num_samples=4000, seed=0)
    # The KL is exact, the distortion a mean of 4,000 draws.
    np.testing.assert_allclose(many.elbo, EXACT, atol=0.1)
    assert elbo == pytest.approx(-EXACT.mean(), abs=2.0)
    model = VAE(
        linear.Encoder(),
        linear.Decoder(),
        objective=IWAE(5),
        missing_values=NAN,
    )
    model.compile("sgd")
    loss = model.evaluate(X, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(-EXACT.mean(), abs=1e-4)


def test_imputation_is_the_conditional_mean(vae):
    samples = 4000
    filled = vae.impute(X, num_samples=samples, seed=0)
    seen = ~np.isnan(X)
    np.testing.assert_array_equal(filled[seen], X[seen])
    for row, found in zip(X, filled, strict=True):
        if np.isnan(row).any():
            mean, covariance = linear.conditional(row, linear.B)
            # Five standard errors of a mean of draws.
            error = 5 * np.sqrt(np.diag(covariance) / samples)
            assert (np.abs(found[np.isnan(row)] - mean) < error).all()


def test_draws_have_the_conditional_moments(vae):
    row = np.array([[0.5, NAN, NAN, -1.0]], "float32")
    m = 2000
    drawn = vae.impute(row, num_samples=4 * m, draws=m, seed=0)
    assert drawn.shape == (m, 1, linear.D)
    assert (drawn[:, 0, [0, 3]] == row[0, [0, 3]]).all()
    mean, covariance = linear.conditional(row[0], linear.B)
    values = drawn[:, 0, 1:3].astype("float64")
    error = np.sqrt(np.diag(covariance) / m)
    assert (np.abs(values.mean(axis=0) - mean) < 5 * error).all()
    # The standard error of a variance is sqrt(2 / m) of it, about 3 percent;
    # resampling adds a quarter.
    np.testing.assert_allclose(
        np.cov(values.T), covariance, atol=0.2 * covariance.max()
    )


def test_chunks_do_not_change_the_answer(vae, monkeypatch):
    monkeypatch.setattr(evaluation.batches, "ROWS", 2000)
    filled = vae.impute(X, num_samples=4000, seed=1)
    mean, covariance = linear.conditional(X[2], linear.B)
    error = 5 * np.sqrt(np.diag(covariance) / 4000)
    assert (np.abs(filled[2][np.isnan(X[2])] - mean) < error).all()


def test_gradients_are_those_of_what_was_observed():
    """Observed: the gradient of the sub-problem; missing: exactly 0."""
    rng = np.random.default_rng(0)
    loc = rng.normal(size=(1, 3)).astype("float32")
    scale = np.array([[0.5, 1e-3, 2.0]], "float32")
    x = np.array([[0.1, NAN, 1.0]], "float32")

    def whole(loc, scale):
        normal = tfd.Independent(tfd.Normal(loc, scale), 1)
        return Observed(normal, NAN).log_prob(x)

    def part(loc, scale):
        return ops.sum(tfd.Normal(loc, scale).log_prob(x[:, [0, 2]]), -1)

    found = gradients(whole, loc, scale)
    exact = gradients(part, loc[:, [0, 2]], scale[:, [0, 2]])
    for f, e in zip(found, exact, strict=True):
        assert f[0, 1] == 0.0
        np.testing.assert_allclose(f[:, [0, 2]], e, rtol=1e-6)


# Each kind of likelihood, against the density of the sub-problem.


def _flat(family):
    def make(p, columns):
        return tfd.Independent(family(ops.take(p, columns, axis=-1)), 1)

    return make


def _mixture(p, columns):
    p = ops.take(p, columns, axis=-1)
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=np.array([0.3, -0.2], "float32")),
        tfd.Independent(tfd.Laplace(ops.stack([p, -p], axis=-2), 1.3), 1),
    )


_LOWER = np.tril(np.random.default_rng(1).normal(size=(4, 4)) * 0.4)
_LOWER[np.diag_indices(4)] = [0.6, 1.1, 0.9, 1.4]


def _normal(p, columns):
    covariance = (_LOWER @ _LOWER.T)[np.ix_(columns, columns)]
    return tfd.MultivariateNormalTriL(
        ops.take(p, columns, axis=-1),
        np.linalg.cholesky(covariance).astype("float32"),
    )


def _composite(p, columns):
    """Every second column a count, the others real."""
    return Composite(
        [
            tfd.Poisson(log_rate=p[..., c])
            if c % 2
            else tfd.Normal(p[..., c], 2.0)
            for c in columns
        ]
    )


KINDS = {
    "normal": _flat(lambda p: tfd.Normal(p, 0.8)),
    "student": _flat(lambda p: tfd.StudentT(1.0, p, 0.8)),
    "gamma": _flat(lambda p: tfd.Gamma(ops.exp(p), 1.5)),
    "lognormal": _flat(lambda p: tfd.LogNormal(p, 0.7)),
    "beta": _flat(lambda p: tfd.Beta(ops.exp(p), 0.4)),
    "poisson": _flat(lambda p: tfd.Poisson(log_rate=p)),
    "bernoulli": _flat(lambda p: tfd.Bernoulli(logits=p)),
    "mixture": _mixture,
    "multivariate": _normal,
    "composite": _composite,
}
# Outcomes of kinds that do not take all positive numbers.
VALUES = {
    "beta": [0.3, 0.8, 0.5, 0.9],
    "poisson": [1.0, 0.0, 3.0, 2.0],
    "bernoulli": [1.0, 0.0, 1.0, 1.0],
}
EVERY = [0, 1, 2, 3]
MASKS = np.array([*itertools.product([False, True], repeat=4)])


@pytest.mark.parametrize("marker", [NAN, -99.0])
@pytest.mark.parametrize("kind", KINDS)
def test_density_is_that_of_the_sub_problem(kind, marker):
    """Under each of the sixteen masks of four elements."""
    make = KINDS[kind]
    p = np.random.default_rng(0).normal(size=4).astype("float32")
    p = np.tile(p, (16, 1))
    x = np.array(VALUES.get(kind, [0.3, 1.0, 0.7, 2.0]), "float32")
    holed = np.where(MASKS, x, marker).astype("float32")
    holed = ops.convert_to_tensor(holed)

    def density(p):
        return Observed(make(p, EVERY), marker).log_prob(holed)

    found = numpy(fast(density)(ops.convert_to_tensor(p)))
    (gradient,) = gradients(density, p)
    assert np.isfinite(gradient).all()
    if kind != "multivariate":  # the mean of each element, in all of the others
        assert (gradient[~MASKS] == 0).all()

    def parts(p):
        """For each mask, the density of only its columns."""
        return ops.stack(
            [
                make(p, np.flatnonzero(mask)).log_prob(x[mask])
                for mask in MASKS[1:]
            ]
        )

    exact = numpy(fast(parts)(ops.convert_to_tensor(p[0])))
    assert found[0] == pytest.approx(0.0, abs=1e-6)
    # Float32, for sums of four terms of order 10.
    np.testing.assert_allclose(found[1:], exact, rtol=1e-4, atol=1e-5)


@hypothesis.given(
    shape=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
    inner=st.integers(0, 3),
    seed=st.integers(0, 1000),
    half=st.sampled_from(["float16", "float32"]),
)
def test_nestings_shapes_and_dtypes(shape, inner, seed, half):
    rng = np.random.default_rng(seed)
    loc = rng.normal(size=(2, *shape)).astype(half)
    x = rng.normal(size=loc.shape).astype(half)
    x[rng.random(x.shape) < 0.5] = NAN
    likelihood = tfd.Normal(loc, np.ones((), half))
    inner = min(inner, len(shape))
    likelihood = tfd.Independent(likelihood, inner)
    likelihood = tfd.Independent(likelihood, len(shape) - inner)
    found = numpy(Observed(likelihood, NAN).log_prob(x))
    exact = norm.logpdf(x.astype("float64"), loc.astype("float64"))
    exact = np.nansum(exact.reshape(2, -1), axis=1)
    assert found.dtype == half
    # Rounding of up to 27 terms.
    tolerance = 0.05 if half == "float16" else 1e-5
    np.testing.assert_allclose(found, exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mask", [(1, 1, 1), (0, 1, 0), (0, 0, 0), (1, 0, 0)])
def test_one_hot_sums_over_the_classes_that_are_left(mask):
    probs = np.array([0.2, 0.5, 0.3], "float32")
    mask = np.array(mask, bool)
    hot = np.array([1.0, 0, 0], "float32")
    one = tfd.OneHotCategorical(probs=probs, dtype="float32")
    found = Observed(one, NAN).log_prob(
        np.where(mask, hot, NAN).astype("float32")
    )
    left = [k for k in range(3) if (np.eye(3)[k][mask] == hot[mask]).all()]
    assert float(found) == pytest.approx(np.log(probs[left].sum()), abs=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_counts_may_be_integers(dtype):
    """Of a mixture, whose components have a dimension before the event."""
    logits = np.log(np.float32([0.3, 0.7]))
    rates = np.float32([[1.0, 2.0], [4.0, 0.5]])
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(logits), tfd.Independent(tfd.Poisson(rates), 1)
    )
    counts = ops.convert_to_tensor(np.array([3, 99], dtype))
    of_first = poisson.pmf(3, rates[:, 0].astype(float))
    likelihood = Observed(mixture, 99)
    assert float(likelihood.log_prob(counts)) == pytest.approx(
        np.log(of_first @ [0.3, 0.7]), rel=1e-5
    )
    weights = of_first * [0.3, 0.7]
    (mean,) = map(numpy, likelihood.statistics(counts))
    assert mean[1] == pytest.approx(
        weights @ rates[:, 1] / weights.sum(), rel=1e-5
    )


def test_what_cannot_leave_elements_out_is_refused():
    with pytest.raises(ValueError, match="Dirichlet.*no density of some"):
        Observed(tfd.Dirichlet(np.ones((2, 3), "float32")), NAN)


# The model, end to end.


def table(rows=64, seed=0):
    """A real column, a count, and a class; a third is missing, and a column."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, rows)
    x = np.stack(
        [kind * 2.0 + rng.normal(size=rows), rng.poisson(kind * 3 + 1), kind], 1
    ).astype("float32")
    holed = np.where(rng.random(x.shape) < 0.3, NAN, x).astype("float32")
    holed[0] = NAN
    return x, holed


def model(objective=None, **kwargs):
    encoder = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(16, "tanh"),
            layers.Head(layers.MultivariateNormalDiag(2)),
        ]
    )
    head = layers.Composite(
        [
            layers.IndependentNormal(1),
            layers.IndependentPoisson(1),
            layers.IndependentCategorical(1, 3),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(16, "tanh"),
            layers.Head(head),
        ]
    )
    vae = VAE(encoder, decoder, objective=objective, **kwargs)
    vae.compile(keras.optimizers.Adam(0.02))
    return vae


def test_a_table_with_gaps_from_end_to_end(tmp_path):
    x, holed = table(rows=256)
    vae = model(missing_values=NAN, seed=1)
    history = vae.fit(
        holed,
        epochs=30,
        verbose=0,
        validation_data=(holed[:64],),
        sample_weight=np.ones(len(x)),
    ).history
    assert history["loss"][-1] < history["loss"][0]
    filled = vae.impute(holed, num_samples=100, seed=0)
    gaps = np.isnan(holed)
    assert np.isfinite(filled).all()
    assert set(np.unique(filled[:, 2])) <= {0.0, 1.0, 2.0}
    # The column mean, and the most frequent class, know less.
    error = np.abs(filled[:, 0] - x[:, 0])[gaps[:, 0]].mean()
    naive = np.abs(np.nanmean(holed[:, 0]) - x[:, 0])[gaps[:, 0]].mean()
    assert error < 0.8 * naive
    right = (filled[:, 2] == x[:, 2])[gaps[:, 2]].mean()
    assert right > 0.5
    vae.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert np.isnan(loaded.missing_values)
    assert loaded.evaluate(holed, verbose=0) == pytest.approx(
        vae.evaluate(holed, verbose=0), rel=1e-6
    )
    predicted = vae.predict(holed, verbose=0)
    assert np.isfinite(predicted["log_likelihood"]).all()
    assert predicted["log_likelihood"][0] == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(numpy(vae.reconstruct(holed))).all()


@pytest.mark.parametrize(
    "objective",
    [
        ELBO(free_bits=0.1),
        IWAE(3, gradient="dreg"),
        RenyiBound(0.5, num_samples=2),
        BetaTCVAE(64),
        MMD(),
    ],
    ids=lambda o: type(o).__name__,
)
def test_every_objective_trains(objective):
    _, holed = table()
    vae = model(objective, missing_values=NAN)
    losses = vae.fit(holed, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(numpy(v)).all() for v in vae.trainable_variables)


def test_whole_numbers_with_a_marker_are_as_nan_is():
    x, _ = linear.data(missing=0.0)
    whole = np.round(x).astype("int32")
    gaps = np.random.default_rng(0).random(x.shape) < 0.4
    found = []
    for marker in (-999, NAN):
        dtype = "int32" if marker == -999 else "float32"
        values = np.where(gaps, marker, whole).astype(dtype)
        vae = VAE(linear.Encoder(), linear.Decoder(), missing_values=marker)
        found.append(vae.marginal_log_likelihood(values, seed=0).log_likelihood)
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_pipelines_and_weights_and_mixed_precision():
    _, holed = table()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        vae = model(missing_values=-999)
    finally:
        keras.config.set_dtype_policy("float32")
    marked = np.where(np.isnan(holed), -999, holed).astype("float32")
    batches = [(marked[:32],), (marked[32:],)]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return batches[index]

    losses = vae.fit(Batches(), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    whole = vae.impute(marked, num_samples=10, seed=0)
    np.testing.assert_array_equal(
        vae.impute(Batches(), num_samples=10, seed=0), whole
    )


def test_figures_of_evaluation_leave_gaps_out(vae):
    found = evaluation.probability_integral_transform(vae, X, seed=0)
    assert (np.isnan(found.values) == np.isnan(X)).all()
    assert found.histogram.sum() == (~np.isnan(X)).sum()
    annealed = evaluation.annealed_importance_sampling(
        vae, X[:4], num_steps=60, seed=0
    )
    # 16 chains of 60 steps: their spread is some tenths of a nat.
    np.testing.assert_allclose(annealed.log_likelihood, EXACT[:4], atol=0.7)


# Errors and their messages.


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"missing_values": "nan"}, TypeError, "number that marks"),
        ({"missing_values": np.inf}, ValueError, "NaN or a finite number"),
        ({"missing_model": layers.SelfMasking(3)}, ValueError, "np.nan"),
        (
            {"missing_model": 3, "missing_values": NAN},
            TypeError,
            "such as SelfMasking",
        ),
    ],
)
def test_arguments_are_checked(arguments, error, words):
    with pytest.raises(error, match=words):
        model(**arguments)


def test_data_are_checked():
    x, holed = table()
    with pytest.raises(ValueError, match=r"finite.*missing_values"):
        model().fit(holed, verbose=0)
    vae = model(missing_values=-1)
    with pytest.raises(ValueError, match="finite"):
        vae.fit(holed, verbose=0)
    infinite = np.where(np.isnan(holed), NAN, holed)
    infinite[5, 0] = np.inf
    vae = model(missing_values=NAN)
    with pytest.raises(ValueError, match=r"1 NaN or infinite.*\(5, 0\)"):
        vae.fit(infinite, verbose=0)
    negative = holed.copy()
    negative[40, 1] = -2.0
    with pytest.raises(ValueError, match="row 40, column 1"):
        vae.fit(negative, verbose=0)
    with pytest.raises(ValueError, match="knows what marks them"):
        model().impute(x)


# Not missing at random.


def test_self_masking_is_a_logistic_regression():
    layer = layers.SelfMasking(2, missing_when="high")
    layer.intercept.assign([0.5, -1.0])
    x = np.array([[0.2, 2.0]], "float32")
    found = layer(x).log_prob(np.array([[1.0, 0.0]], "float32"))
    p = 1 / (1 + np.exp(-(np.array([0.5, -1.0]) - 1.0 * x[0])))
    exact = np.log(p[0]) + np.log(1 - p[1])
    assert float(found[0]) == pytest.approx(exact, rel=1e-5)
    low = layers.SelfMasking(2, missing_when="low")
    np.testing.assert_allclose(numpy(low.slope), -1.0, rtol=1e-6)
    with pytest.raises(ValueError, match='"high" and "low"'):
        layers.SelfMasking(2, missing_when="both")


def test_what_is_missing_because_it_is_high_is_imputed_higher(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 1))
    x = (z + 0.5 * rng.normal(size=(400, 3))).astype("float32")
    holed = x.copy()
    holed[x[:, 0] > 0, 0] = NAN

    def fitted(**kwargs):
        keras.utils.set_random_seed(0)
        vae = VAE(
            keras.Sequential(
                [
                    keras.Input((3,)),
                    keras.layers.Dense(16, "tanh"),
                    layers.Head(layers.MultivariateNormalDiag(1)),
                ]
            ),
            keras.Sequential(
                [
                    keras.Input((1,)),
                    layers.Head(layers.IndependentNormal(3, scale="shared")),
                ]
            ),
            objective=IWAE(5),
            missing_values=NAN,
            seed=0,
            **kwargs,
        )
        vae.compile(keras.optimizers.Adam(0.02))
        vae.fit(holed, epochs=60, verbose=0)
        filled = vae.impute(holed, num_samples=200, seed=0)
        gaps = np.isnan(holed)
        return vae, np.sqrt(((filled - x)[gaps] ** 2).mean())

    _, at_random = fitted()
    vae, not_at_random = fitted(
        missing_model=layers.SelfMasking(3, missing_when="high")
    )
    assert not_at_random < 0.9 * at_random
    drawn = vae.impute(holed, num_samples=200, draws=3, seed=0)
    assert np.isfinite(drawn).all()
    assert drawn.shape == (3, 400, 3)
    vae.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        numpy(loaded.missing_model.intercept),
        numpy(vae.missing_model.intercept),
    )
    assert np.isfinite(
        vae.marginal_log_likelihood(holed, seed=0).log_likelihood
    ).all()
    with pytest.raises(NotImplementedError, match="missing_model"):
        evaluation.annealed_importance_sampling(vae, holed)


def test_a_mask_that_depends_on_draws_needs_their_gradient():
    vae = model(missing_values=NAN, missing_model=layers.SelfMasking(3))
    with pytest.raises(ValueError, match="must be reparameterised"):
        vae.fit(table()[1], verbose=0)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a pipeline of TensorFlow")
def test_gaps_in_tf_data():
    import tensorflow as tf

    _, holed = table()
    vae = model(missing_values=NAN)
    pipeline = tf.data.Dataset.from_tensor_slices(holed).batch(16)
    with pytest.warns(UserWarning, match="shuffle"):  # of Keras
        vae.fit(pipeline, verbose=0)
    assert np.isfinite(vae.evaluate(pipeline, verbose=0)[0])


def test_a_pipeline_that_shuffles_keeps_its_rows(vae):
    class Shuffled:
        """Another order at each pass."""

        def __init__(self):
            self.rng = np.random.default_rng(0)

        def __iter__(self):
            order = self.rng.permutation(len(X))
            return (X[order[i : i + 3]] for i in range(0, len(X), 3))

    filled = vae.impute(Shuffled(), 2, seed=0)
    # Each row has the observed cells of one row of the data, and of no other.
    seen = ~np.isnan(X)
    rows = [
        [np.array_equal(row[s], x[s]) for x, s in zip(X, seen, strict=True)]
        for row in filled
    ]
    # All except the row with nothing observed, which fits any row.
    assert sorted(np.flatnonzero(r)[-1] for r in rows if sum(r) > 1) == [
        *range(1, len(X))
    ]


_CLASSES = {
    "categorical": lambda n: tfd.Categorical(probs=_all([0.4, 0.1, 0.5], n)),
    "ordered": lambda n: tfd.OrderedLogistic(_all([-3.0, -2.0], n), 1.0),
    # The mean is 1.05.
    "mixture": lambda n: tfd.MixtureSameFamily(
        tfd.Categorical(probs=[0.5, 0.5]),
        tfd.Categorical(probs=_all([[0.5, 0.0, 0.5], [0.4, 0.1, 0.5]], n)),
    ),
}


def _all(values, rows):
    """The same distribution for two elements in each row."""
    values = np.float32(values)
    return ops.broadcast_to(values, (rows, 2, *values.shape))


@pytest.mark.parametrize("kind", _CLASSES)
def test_a_gap_in_classes_is_filled_by_a_class(kind):
    class Constant(keras.layers.Layer):
        def call(self, z):
            return tfd.Independent(_CLASSES[kind](ops.shape(z)[0]), 1)

    class Standard(keras.layers.Layer):
        def call(self, x):
            rows = ops.shape(x)[0]
            return tfd.MultivariateNormalDiag(ops.zeros((rows, 2)), [1.0, 1.0])

    model = VAE(Standard(), Constant(), missing_values=-1)
    x = np.array([[0, -1], [-1, 1], [2, 0]], "int32")
    filled = model.impute(x, num_samples=4, seed=0)
    np.testing.assert_array_equal(filled, [[0, 2], [2, 1], [2, 0]])


@pytest.mark.parametrize(
    ("marker", "dtype", "values", "expected"),
    [
        (-1, "uint8", [255, 0], [False, False]),
        (0.5, "int32", [0, 1], [False, False]),
        (np.inf, "int32", [0, 1], [False, False]),
        (1e10, "int32", [0, 1], [False, False]),
        (-1, "bool", [True, False], [False, False]),
        (-1, "int32", [-1, 0], [True, False]),
    ],
)
def test_a_marker_is_not_rounded_to_a_value(marker, dtype, values, expected):
    x = ops.convert_to_tensor(np.array(values, dtype))
    assert numpy(is_missing(x, marker)).tolist() == expected


def test_a_gap_beside_a_power_law_has_no_gradient():
    def log_prob(concentration, scale):
        each = tfd.Weibull(concentration, scale)
        x = np.array([[1e-3, NAN]], "float32")
        return Observed(tfd.Independent(each, 1), NAN).log_prob(x)

    concentration = np.full((1, 2), 50.0, "float32")
    scale = np.full((1, 2), 1e-3, "float32")
    for gradient in gradients(log_prob, concentration, scale):
        assert np.isfinite(gradient).all()
        assert gradient[0, 1] == 0.0


def test_factors_that_are_large_beside_the_noise():
    """A low-rank normal with one factor, against float64."""
    rng = np.random.default_rng(0)
    factor = (10 * rng.normal(size=(6, 2))).astype("float32")
    noise = np.full(6, 1e-3, "float32")
    low_rank = tfd.MultivariateNormalDiagPlusLowRankCovariance(
        np.zeros((3, 6), "float32"), noise, factor
    )
    draws = rng.normal(size=(3, 2)) @ factor.T
    x = (draws + 0.03 * rng.normal(size=(3, 6))).astype("float32")
    x[1, 2:4], x[2, :5] = NAN, NAN
    covariance = factor.astype("float64") @ factor.T + np.diag(noise)
    found = Observed(low_rank, NAN)
    (means,) = found.statistics(ops.convert_to_tensor(x))
    exact = []
    for row, mean in zip(x.astype("float64"), numpy(means), strict=True):
        o = ~np.isnan(row)
        part = covariance[np.ix_(o, o)]
        exact.append(
            multivariate_normal.logpdf(row[o], np.zeros(o.sum()), part)
        )
        whole = covariance[:, o] @ np.linalg.solve(part, row[o])
        # Float32 has x to 1e-6; solving for the factors costs three digits.
        np.testing.assert_allclose(mean, whole, rtol=1e-3, atol=1e-2)
    # A quadratic form of x / sqrt(noise), of size 1e3: 1e6 times epsilon.
    np.testing.assert_allclose(numpy(found.log_prob(x)), exact, atol=0.5)


def test_arrays_with_nan_over_whole_outcomes():
    p = Observed(tfd.OneHotCategorical(probs=[0.2, 0.3, 0.5]), NAN)
    x = np.array([[NAN, 0.0, NAN], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(numpy(p.prob(x)), [0.7, 0.3], rtol=1e-6)
    np.testing.assert_allclose(
        numpy(p.log_prob(x)), np.log([0.7, 0.3]), rtol=1e-6
    )


def test_bits_of_gaps_in_a_pipeline_are_counted_row_by_row():
    class Coins(keras.layers.Layer):
        def call(self, z):
            logits = ops.zeros((ops.shape(z)[0], 4))
            return tfd.Independent(tfd.Bernoulli(logits, dtype="float32"), 1)

    class Standard(keras.layers.Layer):
        def call(self, x):
            rows = ops.shape(x)[0]
            return tfd.MultivariateNormalDiag(ops.zeros((rows, 2)), [1.0, 1.0])

    gaps = np.array([[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]])
    x = np.where(gaps, NAN, 1.0).astype("float32")

    class Turning:
        """Each pass in the reverse order of the one before."""

        order = 1

        def __iter__(self):
            self.order *= -1
            return iter([x[:: self.order]])

    model = VAE(Standard(), Coins(), missing_values=NAN)
    bits = evaluation.bits_per_dimension(model, Turning(), 2, seed=0).bits
    # Each coin is one bit for any mask; a row without coins has none.
    assert np.isnan(bits).sum() == 1
    np.testing.assert_allclose(bits[np.isfinite(bits)], 1.0, rtol=1e-6)
