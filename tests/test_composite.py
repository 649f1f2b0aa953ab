"""Rows of mixed columns: one log-likelihood, and every block is checked."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from support import fast, float64, gradients, numpy, sample

from tfp_vae import VAE, layers
from tfp_vae.distributions import Bernoulli, Composite
from tfp_vae.distributions.serialization import deserialize, serialize
from tfp_vae.distributions.validated import validated
from tfp_vae.layers.heads import composite
from tfp_vae.layers.heads.optimal_scale import OptimalScale
from tfp_vae.substrate import jit, tfd
from tfp_vae.testing import check_distribution

CLASSES = 4


def softplus(x):
    return np.logaddexp(0, x)


def normal(params, x):
    loc, raw = np.split(params, 2, -1)
    return scipy.stats.norm.logpdf(x, loc, softplus(raw) + 1e-6)


def bernoulli(params, x):
    return x * params - softplus(params)


def categorical(params, x):
    logits = params.reshape(*x.shape, CLASSES)
    found = scipy.special.log_softmax(logits, -1)
    return np.take_along_axis(found, np.int64(x)[..., None], -1)[..., 0]


def poisson(params, x):
    return scipy.stats.poisson.logpmf(x, np.exp(params))


# For each kind: a layer, its parameters per column, SciPy's log density, data.
KINDS = {
    "normal": (
        layers.IndependentNormal,
        2,
        normal,
        lambda rng, shape: rng.normal(size=shape),
    ),
    "bernoulli": (
        layers.IndependentBernoulli,
        1,
        bernoulli,
        lambda rng, shape: rng.integers(2, size=shape),
    ),
    "categorical": (
        lambda size: layers.IndependentCategorical(size, CLASSES),
        CLASSES,
        categorical,
        lambda rng, shape: rng.integers(CLASSES, size=shape),
    ),
    "poisson": (
        layers.IndependentPoisson,
        1,
        poisson,
        lambda rng, shape: rng.poisson(1.0, size=shape),
    ),
}


@given(
    kinds=st.lists(
        st.tuples(st.sampled_from(sorted(KINDS)), st.integers(1, 3)),
        min_size=1,
        max_size=4,
    ),
    shuffled=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_row_is_its_blocks(kinds, shuffled, dtype, seed):
    """Against SciPy, in any order of blocks and of columns."""
    rng = np.random.default_rng(seed)
    total = sum(size for _, size in kinds)
    order = rng.permutation(total) if shuffled else np.arange(total)
    ends = np.cumsum([size for _, size in kinds])
    columns = np.split(order, ends[:-1])
    x = np.zeros((3, total))
    expected, params = [], []
    for (kind, size), place in zip(kinds, columns, strict=True):
        _, count, log_density, data = KINDS[kind]
        part = rng.normal(size=(3, count * size)).astype("float32")
        x[:, place] = data(rng, (3, size)).astype("float32")
        expected.append(log_density(np.float64(part), x[:, place]).sum(-1))
        params.append(part)
    params = np.concatenate(params, -1).astype(dtype)
    with float64():
        blocks = [KINDS[kind][0](size) for kind, size in kinds]
        if dtype == "float64":
            blocks = [
                type(block).from_config({**block.get_config(), "dtype": dtype})
                for block in blocks
            ]
        layer = composite.Composite(
            blocks, columns=columns if shuffled else None, dtype=dtype
        )
        assert params.shape[-1] == composite.Composite.params_size(blocks)

        def log_probs(params, x):
            distribution = layer(params)
            terms = distribution.log_prob_by_block(x)
            terms = [terms[name] for name in distribution.names]
            return ops.stack(terms, -1), distribution.log_prob(x)

        terms, found = fast(log_probs)(params, x.astype(dtype))
    assert numpy(terms).dtype == numpy(found).dtype == dtype
    tolerance = {"float32": 1e-5, "float64": 1e-11}[dtype]
    np.testing.assert_allclose(
        numpy(terms), np.stack(expected, -1), rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(
        numpy(found), np.sum(expected, 0), rtol=tolerance, atol=tolerance
    )


# A permutation that is not its own inverse.
COLUMNS = [[2, 0], 3, [1]]


def example(**kwargs):
    """Two correlated reals, a class and a binary column, in mixed order."""
    rows = np.arange(3, dtype="float32")
    scale = np.float32([[1.0, 0.0], [0.8, 0.6]])
    logits = np.stack([0 * rows, rows, -rows, 0 * rows], -1)
    return Composite(
        [
            tfd.MultivariateNormalTriL(
                np.stack([rows, -rows], -1), scale_tril=scale
            ),
            tfd.Categorical(logits=logits),
            tfd.Independent(tfd.Bernoulli(logits=rows[:, None]), 1),
        ],
        columns=COLUMNS,
        **kwargs,
    )


X = np.float32([[0.1, 1, 0.3, 2], [1.0, 0, -2.0, 0], [3.0, 1, 0.0, 1]])


def test_statistics_by_column():
    distribution = example()
    rows = np.arange(3.0)
    p = scipy.special.softmax(
        np.stack([0 * rows, rows, -rows, 0 * rows], -1), -1
    )
    k = np.arange(CLASSES)
    yes = scipy.special.expit(rows)
    mean = (p * k).sum(-1)
    variance = (p * k**2).sum(-1) - mean**2
    for name, columns in {
        "mean": [-rows, yes, rows, mean],
        "variance": [1 + 0 * rows, yes * (1 - yes), 1 + 0 * rows, variance],
        "mode": [-rows, yes > 0.5, rows, p.argmax(-1)],
        "stddev": [
            1 + 0 * rows,
            np.sqrt(yes * (1 - yes)),
            1 + 0 * rows,
            np.sqrt(variance),
        ],
    }.items():
        found = numpy(getattr(distribution, name)())
        assert found.dtype == np.float32
        np.testing.assert_allclose(
            found, np.stack(columns, -1), rtol=1e-5, atol=1e-6, err_msg=name
        )
    entropy = (
        scipy.stats.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]]).entropy()
        + scipy.special.entr(p).sum(-1)
        + scipy.special.entr(yes)
        + scipy.special.entr(1 - yes)
    )
    np.testing.assert_allclose(
        numpy(distribution.entropy()), entropy, rtol=1e-5
    )


def test_draws():
    draws = sample(example(), 20_000)
    assert draws.shape == (20_000, 3, 4)
    assert draws.dtype == np.float32
    for column in (1, 3):
        assert (draws[..., column] == draws[..., column].round()).all()
    error = draws.std(0) / np.sqrt(len(draws))
    wrong = np.abs(draws.mean(0) - numpy(example().mean())) / error
    assert wrong.max() < 5
    # Correlated inside a block, not across blocks.
    found = np.corrcoef(draws[:, 1].T)
    expected = np.eye(4)
    expected[0, 2] = expected[2, 0] = 0.8
    assert np.abs(found - expected).max() < 5 / np.sqrt(len(draws))
    np.testing.assert_array_equal(draws[:50], sample(example(), 20_000)[:50])
    alike = sample(Composite([tfd.Normal(0.0, 1.0)] * 2), 1000)
    assert np.abs(np.corrcoef(alike.T)[0, 1]) < 5 / np.sqrt(1000)


def test_is_a_distribution_like_tfps():
    distribution = example()
    whole = numpy(distribution.log_prob(X))
    assert tuple(distribution.event_shape) == (4,)
    assert tuple(distribution.batch_shape) == (3,)
    assert distribution.columns == ((2, 0), (3,), (1,))
    assert len(distribution.distributions) == 3
    np.testing.assert_allclose(
        numpy(distribution[1].log_prob(X[1])), whole[1], rtol=1e-6
    )
    stacked = numpy(distribution.log_prob(np.stack([X, X])))
    np.testing.assert_allclose(stacked, [whole, whole], rtol=1e-6)
    joint = tfd.Independent(distribution, 1).log_prob(X)
    np.testing.assert_allclose(numpy(joint), whole.sum(), rtol=1e-5)
    # Integers are columns too.
    np.testing.assert_allclose(
        numpy(distribution.log_prob(np.ones((3, 4), np.int32))),
        numpy(distribution.log_prob(np.ones((3, 4), np.float32))),
    )
    assert distribution.reparameterization_type == tfd.NOT_REPARAMETERIZED
    reals = Composite([tfd.Normal(0.0, 1.0), tfd.Laplace(0.0, 1.0)])
    assert reals.reparameterization_type == tfd.FULLY_REPARAMETERIZED


def test_blocks_have_names():
    normal, yes = tfd.Normal([0.0, 1.0], 1.0), tfd.Bernoulli(logits=[0.0, 1.0])
    x = np.float32([[0.5, 1.0], [2.0, 0.0]])
    expected = {
        "size": scipy.stats.norm.logpdf(x[:, 0] - [0, 1]),
        "smokes": scipy.stats.bernoulli.logpmf(
            x[:, 1], scipy.special.expit([0, 1])
        ),
    }
    named = Composite({"size": normal, "smokes": yes})
    for row in (named, Composite([normal, yes], names=["size", "smokes"])):
        for same in (
            row,
            row.copy(),
            validated(row),
            deserialize(serialize(row)),
        ):
            found = same.log_prob_by_block(x)
            assert list(found) == ["size", "smokes"]
            for name, term in found.items():
                np.testing.assert_allclose(
                    numpy(term), expected[name], rtol=1e-5
                )
        one = row[1].log_prob_by_block(x[1])
        np.testing.assert_allclose(
            numpy(one["smokes"]), expected["smokes"][1], rtol=1e-5
        )
    found = jit(lambda row, x: row.log_prob_by_block(x))(named, x)
    assert sorted(found) == ["size", "smokes"]
    row = Composite([normal, yes, normal, normal])
    assert row.names == ("Normal", "Bernoulli", "Normal_1", "Normal_2")
    layer = composite.Composite(
        {"a": layers.IndependentNormal(2), "b": layers.IndependentPoisson(1)}
    )
    rebuilt = keras.layers.deserialize(keras.layers.serialize(layer))
    size = composite.Composite.params_size(
        dict(zip("ab", layer.blocks, strict=True))
    )
    assert rebuilt(np.zeros((1, size), "float32")).names == ("a", "b")
    for blocks, names in (
        ([normal, yes], ["a"]),
        ([normal, yes], ["a", "a"]),
        ([normal, yes], ["a", 1]),
        ({"a": normal, 1: yes}, None),
        ({"a": normal, "b": yes}, ["a", "b"]),
    ):
        with pytest.raises(ValueError, match="names"):
            Composite(blocks, names=names)


def test_goes_in_and_out_of_compiled_functions():
    rows = np.float32([0.0, 1.0])
    column = np.float32([1.0, 0.0])
    make = jit(
        lambda rows: Composite(
            [
                tfd.Normal(rows, 1.0),
                tfd.Categorical(logits=rows[:, None] * column),
            ]
        )
    )
    x = np.float32([[0.5, 0], [0.5, 1]])
    found = jit(lambda d, x: d.log_prob(x))(make(rows), x)
    expected = scipy.stats.norm.logpdf(0.5 - rows) - np.log([2, 1 + np.exp(1)])
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-6)


class Table(Composite):
    """A Composite with parameters that the kit can vary."""

    def __init__(self, loc, scale, logits, validate_args=False, name="Table"):
        parameters = dict(locals())
        self.loc, self.scale, self.logits = loc, scale, logits
        super().__init__(
            [
                tfd.Normal(loc, scale, validate_args=validate_args),
                # TFP's distribution has another gradient in the data on JAX.
                Bernoulli(logits=logits),
            ],
            validate_args=validate_args,
            name=name,
        )
        self._parameters = parameters

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        normal = tfd.Normal.parameter_properties(dtype)
        return {
            "loc": normal["loc"],
            "scale": normal["scale"],
            "logits": normal["loc"],
        }


def test_passes_the_kit():
    check_distribution(Table, max_examples=1)


@pytest.mark.parametrize(
    ("column", "value"),
    [(3, 1.5), (3, 9.0), (3, -1.0), (1, 0.5), (1, 2.0), (1, -1.0)],
)
def test_validate_args_reaches_every_block(column, value):
    x = X.copy()
    x[1, column] = value
    for strict in (example(validate_args=True), validated(example())):
        numpy(strict.log_prob(X))
        with pytest.raises(Exception, match=r"."):
            numpy(strict.log_prob(x))


def test_wrong_blocks():
    one, two = tfd.Normal(0.0, 1.0), tfd.Normal([0.0, 1.0], 1.0)
    with pytest.raises(ValueError, match=r"one block or more"):
        Composite([])
    with pytest.raises(ValueError, match=r"same batch shape.*\(\), \(2,\)"):
        Composite([one, two])
    with pytest.raises(ValueError, match=r"scalars or .*\(2, 2\)"):
        Composite([tfd.Independent(tfd.Normal(np.zeros((2, 2), "f"), 1.0), 2)])
    with float64(), pytest.raises(TypeError, match=r"float32.*float64"):
        Composite([one, tfd.Normal(np.float64(0.0), np.float64(1.0))])
    for columns in ([0, 0], [0, 2], [0], [[0, 1], 2], [-1, 0]):
        with pytest.raises(ValueError, match=r"`columns` gives each block"):
            Composite([one, one], columns=columns)


# The layer.


def table_blocks():
    return [
        layers.IndependentNormal(2, scale="optimal"),
        layers.IndependentBernoulli(()),
        layers.IndependentCategorical((), num_classes=CLASSES, name="ward"),
        layers.IndependentHuber(1, scale="shared"),
        layers.OneHotCategorical(3),
        layers.MultivariateNormalTriL(2),
    ]


# The parameters of each block, in the same order.
TABLE_SIZES = [2, 1, 4, 1, 3, 5]
TABLE_COLUMNS = [[0, 3], 1, 2, 4, [5, 6, 7], [9, 8]]


def table(n):
    """Rows that two numbers mostly determine."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, n))
    noise = rng.normal(size=(5, n))
    colour = np.eye(3)[np.digitize(b, [-0.5, 0.5])]
    columns = [
        a + 0.1 * noise[0],
        a > 0,
        np.digitize(b, [-0.7, 0, 0.7]),
        a - b + 0.1 * noise[1],
        b + 0.1 * noise[2],
        *colour.T,
        noise[3],
        noise[3] + a + 0.1 * noise[4],
    ]
    return np.stack(columns, -1).astype("float32")


def test_layer():
    blocks = table_blocks()
    layer = composite.Composite(blocks, TABLE_COLUMNS)
    size = composite.Composite.params_size(blocks)
    assert size == sum(TABLE_SIZES)
    assert layer.event_shape == (10,)
    symbolic = layer(keras.Input((size,)))
    assert symbolic.shape == (None, 10)
    assert symbolic.dtype == "float32"
    params = np.random.default_rng(0).normal(size=(4, size)).astype("float32")
    distribution = layer(params)
    x = table(4)
    terms = distribution.log_prob_by_block(x)
    assert list(terms) == [
        "independent_normal",
        "independent_bernoulli",
        "ward",
        "independent_huber",
        "one_hot_categorical",
        "multivariate_normal_tri_l",
    ]
    terms = np.stack([*map(numpy, terms.values())], -1)
    parts = np.split(params, np.cumsum(TABLE_SIZES)[:-1], -1)
    for i, (block, part) in enumerate(zip(blocks, parts, strict=True)):
        value = x[:, TABLE_COLUMNS[i]].reshape(4, *block.event_shape)
        np.testing.assert_allclose(
            terms[:, i], numpy(block(part).log_prob(value)), rtol=1e-5
        )
    # One variable for the shared scale, one for the running mean.
    assert len(layer.trainable_weights) == len(layer.non_trainable_weights) == 1
    assert isinstance(
        layer(params, training=True).distributions[0], OptimalScale
    )
    (slope,) = gradients(lambda p: layer(p).log_prob(x), params)
    assert np.isfinite(slope).all()
    assert (np.abs(slope).sum(0) > 0).all()
    rebuilt = keras.layers.deserialize(keras.layers.serialize(layer))
    assert rebuilt.get_config() == layer.get_config()
    with pytest.raises(ValueError, match=f"params_size={size}.*Received: 9"):
        composite.Composite(table_blocks())(params[:, :9])


def test_layers_in_layers():
    inner = composite.Composite([layers.IndependentNormal(1)] * 2)
    outer = composite.Composite(
        [inner, layers.IndependentPoisson(1)], [[0, 2], 1]
    )
    assert composite.Composite.params_size(outer.blocks) == 5
    # Locations and raw scales of 0, and a rate of 1.
    found = numpy(outer(np.zeros((2, 5), "float32")).log_prob(np.ones((2, 3))))
    expected = 2 * scipy.stats.norm.logpdf(1, 0, np.log(2) + 1e-6) - 1
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_layer_of_the_wrong_blocks():
    class NoSuchAttribute(layers.DistributionLayer):
        @staticmethod
        def params_size(rank):
            return rank

    for block, message in (
        (layers.IndependentNormal((2, 2)), r"scalars or.*\(2, 2\)"),
        (layers.DistributionLambda(lambda t: t), "with a params_size"),
        (keras.layers.Dense(3), "with a params_size.*Dense"),
        (NoSuchAttribute(2), "NoSuchAttribute without `rank`"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            composite.Composite([block])
    with pytest.raises(ValueError, match="`columns` gives each block"):
        composite.Composite([layers.IndependentNormal(2)], [[0, 0]])


def tiny_vae(layer, width, columns):
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential(
        [
            keras.Input((columns,)),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(layers.MultivariateNormalDiag.params_size(3)),
            layers.MultivariateNormalDiag(3),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(width),
            layer,
        ]
    )
    model = VAE(encoder, decoder, seed=0)
    model.compile(keras.optimizers.Adam(0.02))
    return model


# TFP requests int64 from JAX when it draws classes.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
def test_trains_on_a_table(tmp_path):
    x = table(128)
    blocks = table_blocks()
    model = tiny_vae(
        composite.Composite(blocks, TABLE_COLUMNS),
        composite.Composite.params_size(blocks),
        10,
    )
    before = model.evaluate(x, verbose=0)[0]
    history = model.fit(x, batch_size=32, epochs=12, verbose=0).history
    assert history["loss"][-1] < before - 4
    found = model.predict(x, verbose=0)
    assert found["mean"].shape == (128, 10)
    assert np.isfinite(found["log_likelihood"]).all()
    # Every kind of column was learned: numbers, binary values, colours.
    for column in (0, 3, 4):
        assert np.corrcoef(found["mean"][:, column], x[:, column])[0, 1] > 0.8
    assert ((found["mean"][:, 1] > 0.5) == x[:, 1]).mean() > 0.8
    colours = found["mean"][:, 5:8]
    assert (colours.argmax(-1) == x[:, 5:8].argmax(-1)).mean() > 0.7
    np.testing.assert_allclose(
        numpy(model.reconstruct(x)), found["mean"], rtol=1e-3, atol=1e-4
    )
    draws = numpy(model.sample(16, seed=0))
    whole = draws[:, [1, 2, 5, 6, 7]]
    assert (whole == whole.round()).all()
    marginal = model.marginal_log_likelihood(x[:8], num_samples=16, seed=0)
    assert np.isfinite(marginal.log_likelihood).all()
    expected = model.evaluate(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.evaluate(x, verbose=0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("column", "value"), [(1, 2.0), (2, 4.0), (2, -1.0), (1, -1.0)]
)
def test_values_outside_a_column_s_support_are_refused(column, value):
    x = table(16)[:, :3]
    # The first rows are checked, and those with the extremes of all columns.
    x[1, column] = value
    blocks = table_blocks()[:3]
    blocks[0] = layers.IndependentNormal(1)
    model = tiny_vae(
        composite.Composite(blocks), composite.Composite.params_size(blocks), 3
    )
    with pytest.raises(ValueError, match=r"support of the likelihood"):
        model.fit(x, verbose=0)


def test_grey_columns_are_warned_of():
    x = np.random.default_rng(0).random((16, 2)).astype("float32")
    blocks = [layers.IndependentNormal(1), layers.IndependentBernoulli(1)]
    model = tiny_vae(
        composite.Composite(blocks), composite.Composite.params_size(blocks), 2
    )
    with pytest.warns(UserWarning, match="Composite has whole numbers"):
        model.fit(x, verbose=0)
