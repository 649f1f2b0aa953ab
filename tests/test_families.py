"""Every family that is a layer, in one table, with its SciPy counterpart."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from keras import ops
from support import density, fast, float64, gradients, numpy, sample

from tfp_vae import VAE, layers
from tfp_vae.substrate import is_discrete, jit

FLOOR = 1e-6
CLASSES = 3


def positive(raw):
    """The documented parameterisation of positive parameters."""
    return np.logaddexp(0, raw) + FLOOR


class Density(NamedTuple):
    """What the tests use of a frozen distribution of SciPy."""

    logpdf: Callable[[Any], Any]
    mean: Callable[[], Any]


def counting(frozen):
    return Density(frozen.logpmf, frozen.mean)


def zero_inflated(frozen, logits):
    share = scipy.special.expit(logits)
    return Density(
        lambda x: np.log(share * (x == 0) + (1 - share) * frozen.pmf(x)),
        lambda: (1 - share) * frozen.mean(),
    )


def negative_binomial(raw, logits):
    # SciPy's p is the probability of a failure.
    return scipy.stats.nbinom(positive(raw), scipy.special.expit(-logits))


def continuous_bernoulli(logits):
    """An exponential truncated at 1, mirrored for positive logits."""
    size = np.abs(logits)
    frozen = scipy.stats.truncexpon(b=size, scale=1 / size)
    turned = logits > 0
    return Density(
        lambda x: frozen.logpdf(np.where(turned, 1 - x, x)),
        lambda: np.where(turned, 1 - frozen.mean(), frozen.mean()),
    )


def one_hot(logits):
    # Element by element, like the others: the sum over a vector is its logpmf.
    p = scipy.special.softmax(logits, axis=-1)
    return Density(lambda x: x * np.log(p), lambda: p)


def classes(*logits):
    # Adjacent for each element, not one block after the other.
    rows = len(logits[0])
    p = np.concatenate(logits, 1).reshape(rows, -1, CLASSES)
    p = scipy.special.softmax(p, axis=-1)
    return Density(
        lambda x: np.log(
            np.take_along_axis(p, np.int64(x)[..., None], -1)[..., 0]
        ),
        lambda: None,
    )


class Row(NamedTuple):
    """One family.

    `element` takes the raw parameters, each `[B, elements]`; `data` a
    generator and a shape.
    """

    cls: type
    parameters: int
    element: Callable[..., Any]
    data: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    arguments: dict[str, Any] = {}
    vector: bool = False
    has_mean: bool = True

    def layer(self, event_shape):
        if self.vector:
            (event_shape,) = event_shape
        return self.cls(event_shape, **self.arguments)

    def size(self, event_shape):
        if self.vector:
            (event_shape,) = event_shape
        return self.cls.params_size(event_shape, **self.arguments)


def real(rng, shape):
    return rng.normal(size=shape)


def counts(rng, shape):
    return rng.poisson(2.0, size=shape)


def proportions(rng, shape):
    return rng.uniform(0.01, 0.99, size=shape)


def sizes(rng, shape):
    return rng.gamma(2.0, size=shape)


def angles(rng, shape):
    return rng.uniform(-np.pi, np.pi, size=shape)


def vectors(rng, shape):
    return np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]


def labels(rng, shape):
    return rng.integers(CLASSES, size=shape)


TABLE = {
    "logistic": Row(
        layers.IndependentLogistic,
        2,
        lambda loc, raw: scipy.stats.logistic(loc, positive(raw)),
        real,
    ),
    "student": Row(
        layers.IndependentStudentT,
        2,
        lambda loc, raw: scipy.stats.t(5.0, loc, positive(raw)),
        real,
    ),
    "cauchy": Row(
        layers.IndependentCauchy,
        2,
        lambda loc, raw: scipy.stats.cauchy(loc, positive(raw)),
        real,
    ),
    "barron": Row(
        layers.IndependentBarron,
        2,
        # The Charbonnier density is the symmetric hyperbolic one.
        lambda loc, raw: Density(
            scipy.stats.genhyperbolic(1, 1, 0, loc, positive(raw)).logpdf,
            lambda: loc,
        ),
        real,
    ),
    "poisson": Row(
        layers.IndependentPoisson,
        1,
        lambda log_rate: counting(scipy.stats.poisson(np.exp(log_rate))),
        counts,
    ),
    "negative_binomial": Row(
        layers.IndependentNegativeBinomial,
        2,
        lambda raw, logits: counting(negative_binomial(raw, logits)),
        counts,
    ),
    "zero_inflated_poisson": Row(
        layers.IndependentZeroInflatedPoisson,
        2,
        lambda log_rate, logits: zero_inflated(
            scipy.stats.poisson(np.exp(log_rate)), logits
        ),
        counts,
    ),
    "zero_inflated_negative_binomial": Row(
        layers.IndependentZeroInflatedNegativeBinomial,
        3,
        lambda raw, logits, zero: zero_inflated(
            negative_binomial(raw, logits), zero
        ),
        counts,
    ),
    "gamma": Row(
        layers.IndependentGamma,
        2,
        lambda a, rate: scipy.stats.gamma(positive(a), 0, 1 / positive(rate)),
        sizes,
    ),
    "log_normal": Row(
        layers.IndependentLogNormal,
        2,
        lambda loc, raw: scipy.stats.lognorm(positive(raw), 0, np.exp(loc)),
        sizes,
    ),
    "beta": Row(
        layers.IndependentBeta,
        2,
        lambda a, b: scipy.stats.beta(positive(a), positive(b)),
        proportions,
    ),
    "continuous_bernoulli": Row(
        layers.IndependentContinuousBernoulli,
        1,
        continuous_bernoulli,
        proportions,
    ),
    "von_mises": Row(
        layers.IndependentVonMises,
        2,
        lambda loc, raw: Density(
            scipy.stats.vonmises(positive(raw), loc).logpdf, lambda: loc
        ),
        angles,
    ),
    "one_hot": Row(layers.OneHotCategorical, 1, one_hot, vectors, vector=True),
    "categorical": Row(
        layers.IndependentCategorical,
        CLASSES,
        classes,
        labels,
        {"num_classes": CLASSES},
        has_mean=False,
    ),
}
NAMES = sorted(TABLE)
ELEMENTWISE = [name for name in NAMES if not TABLE[name].vector]


def raw_and_data(row, shape, seed=0):
    rng = np.random.default_rng(seed)
    params = rng.normal(size=(shape[0], row.parameters, *shape[1:]))
    return params.astype("float32"), row.data(rng, shape).astype("float32")


@pytest.mark.versions
@pytest.mark.parametrize("event_shape", [(), (3,), (2, 1, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_against_scipy(name, event_shape):
    row = TABLE[name]
    if row.vector and len(event_shape) != 1:
        pytest.skip("an event of this layer is a vector")
    raw, x = raw_and_data(row, (4, *event_shape))
    params = raw.reshape(4, -1)
    assert params.shape[1] == row.size(event_shape)
    layer, dtypes = row.layer(event_shape), []
    symbolic = layer(keras.Input(params.shape[1:]))
    assert symbolic.shape == (None, *event_shape)

    @fast
    def log_prob_and_mean(params, x):
        distribution = layer(params)
        assert tuple(distribution.batch_shape) == (4,)
        assert tuple(distribution.event_shape) == event_shape
        dtypes.append(keras.backend.standardize_dtype(distribution.dtype))
        mean = distribution.mean() if row.has_mean else 0.0
        return distribution.log_prob(x), mean

    log_prob, mean = log_prob_and_mean(params, x)
    assert symbolic.dtype == dtypes[0]
    assert symbolic.dtype == ("int32" if name == "categorical" else "float32")
    parts = np.split(params.astype("float64"), row.parameters, axis=1)
    exact = row.element(*parts)
    # A log density in float32 is a difference of numbers of the order of 10.
    np.testing.assert_allclose(
        numpy(log_prob),
        exact.logpdf(np.float64(x).reshape(4, -1)).sum(1),
        rtol=1e-5,
        atol=1e-5,
    )
    if row.has_mean:
        np.testing.assert_allclose(
            numpy(mean).reshape(4, -1),
            exact.mean(),
            rtol=2e-5,
            atol=2e-5,
        )


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_channels_last_is_the_same_distribution(name):
    row, event_shape = TABLE[name], (2, 1, 2)
    raw, x = raw_and_data(row, (4, *event_shape))
    flat = raw.reshape(4, -1)
    if name == "categorical":
        # Its logits are adjacent, so both layouts are the same.
        last = flat.reshape(4, 2, 1, 2 * row.parameters)
    else:
        last = np.concatenate(list(np.moveaxis(raw, 1, 0)), axis=-1)
    layer = row.layer(event_shape)
    assert layer.compute_output_shape(last.shape) == (4, *event_shape)
    np.testing.assert_allclose(
        numpy(layer(last).log_prob(x)),
        numpy(layer(flat).log_prob(x)),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", NAMES)
def test_config_and_width(name):
    row = TABLE[name]
    layer = row.layer((3,))
    rebuilt = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(rebuilt) is row.cls
    assert rebuilt.get_config() == layer.get_config()
    wrong = row.size((3,)) + 1
    with pytest.raises(
        ValueError, match=f"params_size={wrong - 1}.*Received: .*{wrong}"
    ):
        layer(np.zeros((2, wrong), "float32"))


@pytest.mark.parametrize("name", NAMES)
def test_saved_under_mixed_precision(name, tmp_path):
    """A functional model, whose distribution is in single precision."""
    row = TABLE[name]
    _, y = raw_and_data(row, (2, 3))
    x = np.random.default_rng(0).normal(size=(2, 5)).astype("float32")
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((5,))
        params = keras.layers.Dense(row.size((3,)))(inputs)
        model = keras.Model(inputs, row.layer((3,))(params))
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    before, after = (m(x).log_prob(y) for m in (model, loaded))
    assert keras.backend.standardize_dtype(before.dtype) == "float32"
    np.testing.assert_array_equal(numpy(before), numpy(after))


def tiny_vae(width, layer):
    vae = VAE(
        keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4),
                layers.MultivariateNormalDiag(2),
            ]
        ),
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(width), layer]),
        seed=0,
    )
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae


@pytest.mark.parametrize("name", NAMES)
def test_trains_a_vae(name):
    row = TABLE[name]
    _, x = raw_and_data(row, (16, 3))
    vae = tiny_vae(row.size((3,)), row.layer((3,)))
    # A warning, such as that of data between two outcomes, is an error.
    history = vae.fit(x, batch_size=16, epochs=3, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_discrete_layers_know_that_they_are():
    discrete = {
        name
        for name in NAMES
        if is_discrete(
            TABLE[name].layer((3,))(
                np.zeros((1, TABLE[name].size((3,))), "float32")
            )
        )
    }
    assert discrete == {
        "poisson",
        "negative_binomial",
        "zero_inflated_poisson",
        "zero_inflated_negative_binomial",
        "one_hot",
        "categorical",
    }


# TFP requests float64 from JAX when it draws counts.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
@pytest.mark.parametrize(
    "name", ["zero_inflated_poisson", "zero_inflated_negative_binomial"]
)
def test_zero_inflation(name):
    """Extreme log-odds lose nothing, and draws have the right mean."""
    row = TABLE[name]
    layer = row.layer((1,))
    raw, _ = raw_and_data(row, (1, 1))
    params = np.repeat(raw.reshape(1, -1), 6, axis=0)
    params[:, -1] = [-40, -40, 0, 0, 40, 40]
    x = np.float32([[0], [3]] * 3)
    parts = np.split(params.astype("float64"), row.parameters, axis=1)
    with np.errstate(divide="ignore"):
        expected = row.element(*parts).logpdf(np.float64(x))[:, 0]
    # 1 - sigmoid(40) is 0 even in float64: its logarithm is that of exp(-40).
    base = TABLE[name.removeprefix("zero_inflated_")]
    expected[5] = -40 + base.element(*parts[:-1]).logpdf(3.0)[5, 0]
    np.testing.assert_allclose(
        density(layer, params, x)[0], expected, rtol=1e-5, atol=1e-6
    )
    (gradient,) = gradients(lambda p: layer(p).log_prob(x), params)
    assert np.isfinite(gradient).all()
    distribution = layer(params[2:3])
    draws = sample(distribution, 4000)
    assert (draws == np.round(draws)).all()
    error = draws.std() / np.sqrt(draws.size)
    assert abs(draws.mean() - numpy(distribution.mean())) < 5 * error


def test_categorical_layouts_and_classes_that_do_not_exist():
    logits = np.random.default_rng(0).normal(size=(5, 2, 3, 4))
    logits = logits.astype("float32")
    x = np.ones((5, 2, 3), "float32")
    layer = layers.IndependentCategorical((2, 3), 4)
    expected = scipy.special.log_softmax(logits, -1)[..., 1].sum((1, 2))
    for shape in ((5, 2, 3, 4), (5, 2, 12), (5, 24)):
        np.testing.assert_allclose(
            numpy(layer(logits.reshape(shape)).log_prob(x)), expected, rtol=1e-5
        )
        assert layer.compute_output_shape(shape) == (5, 2, 3)
    assert np.isneginf(numpy(layer(logits).log_prob(4 * x))).all()
    for size in (0, (2, 3), True):
        with pytest.raises(ValueError, match="positive int|takes their size"):
            layers.IndependentCategorical(3, size)


# The scale of maximum likelihood.


def barron_energy(r, alpha):
    """Minus the log density, up to what does not depend on the scale."""
    if alpha == 0:
        return np.log1p(r**2 / 2)
    if alpha == 2:
        return r**2 / 2
    b = abs(alpha - 2)
    return b / alpha * ((r**2 / b + 1) ** (alpha / 2) - 1)


def student_energy(df):
    return lambda r: -scipy.stats.t.logpdf(r, df)


SCALES = {
    "logistic": (
        layers.IndependentLogistic,
        {},
        lambda r: -scipy.stats.logistic.logpdf(r),
    ),
    "cauchy": (layers.IndependentCauchy, {}, student_energy(1.0)),
    "student 5": (layers.IndependentStudentT, {}, student_energy(5.0)),
    "student 0.2": (
        layers.IndependentStudentT,
        {"df": 0.2},
        student_energy(0.2),
    ),
    "huber": (
        layers.IndependentHuber,
        {"delta": 1.5},
        lambda r: np.where(np.abs(r) <= 1.5, r**2 / 2, 1.5 * abs(r) - 1.125),
    ),
    **{
        f"barron {alpha}": (
            layers.IndependentBarron,
            {"alpha": alpha},
            lambda r, alpha=alpha: barron_energy(r, alpha),
        )
        for alpha in (0, 0.5, 1.0, 2.0, 2.5, 8.0)
    },
}


def likeliest_scale(energy, residual):
    """The minimum by SciPy: a grid for the basin, then Brent's method."""

    def loss(log_scale):
        return energy(residual * np.exp(-log_scale)).mean() + log_scale

    grid = np.linspace(-16, 18, 137)
    best = grid[np.argmin([loss(t) for t in grid])]
    found = scipy.optimize.minimize_scalar(
        loss,
        bounds=(best - 0.25, best + 0.25),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return np.exp(found.x)


@pytest.mark.parametrize("name", sorted(SCALES))
def test_optimal_scale_against_scipy(name):
    """With few and many outliers, near and far, in several units."""
    cls, arguments, energy = SCALES[name]
    rng = np.random.default_rng(0)
    with float64():
        layer = cls(25, scale="optimal", dtype="float64", **arguments)
        solve = jit(layer.optimal_scale)
        for spoilt, far, unit in (
            (0.0, 0.0, 1e-3),
            (0.05, 1e4, 50.0),
            (0.3, 10.0, 1.0),
            (0.48, 1e4, 1.0),
        ):
            residual = rng.normal(size=(8, 25))
            residual[rng.random((8, 25)) < spoilt] = far
            residual *= unit
            found = solve(ops.convert_to_tensor(residual, "float64"))
            assert keras.backend.standardize_dtype(found.dtype) == "float64"
            # A minimum is found to about the root of the precision.
            assert float(found) == pytest.approx(
                likeliest_scale(energy, residual), rel=1e-6
            )


@pytest.mark.parametrize("name", sorted(SCALES))
def test_optimal_scale_in_single_precision(name):
    cls, arguments, energy = SCALES[name]
    residual = np.random.default_rng(5).standard_cauchy((8, 25))
    residual = residual.astype("float32")
    layer = cls(25, scale="optimal", min_scale=1e-3, **arguments)
    solve = jit(layer.optimal_scale)
    assert float(solve(ops.convert_to_tensor(residual))) == pytest.approx(
        likeliest_scale(energy, np.float64(residual)), rel=1e-4
    )
    nothing = ops.zeros(residual.shape)
    assert float(solve(nothing)) == pytest.approx(1e-3, rel=1e-3)


def test_a_cauchy_that_mostly_fits_has_the_least_scale():
    layer = layers.IndependentCauchy(4, scale="optimal", min_scale=1e-3)
    residual = ops.convert_to_tensor(np.float32([[0.0, 0.0, 0.0, 5.0]]))
    assert float(layer.optimal_scale(residual)) == pytest.approx(1e-3, rel=1e-3)


def test_optimal_scale_in_training():
    """On JAX no gradient may pass through the loop that finds the scale."""
    layer = layers.IndependentStudentT(3, scale="optimal")
    x = np.random.default_rng(0).normal(size=(16, 3)).astype("float32")
    history = tiny_vae(3, layer).fit(x, batch_size=16, epochs=3, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert float(layer.non_trainable_weights[0]) != 1.0


def test_shape_of_barron():
    params = np.zeros((1, 4), "float32")
    cauchy = layers.IndependentBarron(2, alpha=0)(params).distribution
    np.testing.assert_array_equal(numpy(cauchy.alpha), 0.0)
    shared = layers.IndependentBarron(2, scale="shared", alpha="shared")
    shared(params[:, :2])
    assert len(shared.trainable_weights) == 2
    assert layers.IndependentBarron.params_size(2, alpha="learned") == 6
    for alpha in (-1.0, False, np.inf):
        with pytest.raises(ValueError, match="positive number, 0 or one of"):
            layers.IndependentBarron(2, alpha=alpha)
    with pytest.raises(ValueError, match="positive number or one of"):
        layers.IndependentStudentT(2, df=0)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (layers.IndependentStudentT, "df"),
        (layers.IndependentBarron, "alpha"),
        (layers.IndependentHuber, "delta"),
    ],
)
def test_optimal_scale_wants_a_known_shape(cls, name):
    with pytest.raises(ValueError, match=f"{name} must be a number"):
        cls(3, scale="optimal", **{name: "shared"})
