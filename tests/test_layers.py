"""Distribution layers: layouts, modes, symbolic use, precision, configs."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from support import gradients, numpy

from tfp_vae import layers
from tfp_vae.distributions import Huber
from tfp_vae.layers.heads.optimal_scale import OptimalScale
from tfp_vae.substrate import tfd

ELEMENTWISE = {
    "bernoulli": layers.IndependentBernoulli,
    "normal": layers.IndependentNormal,
    "laplace": layers.IndependentLaplace,
    "huber": layers.IndependentHuber,
}
VECTOR = {
    "diag": layers.MultivariateNormalDiag,
    "tril": layers.MultivariateNormalTriL,
}
EVERY = {**ELEMENTWISE, **VECTOR}


def softplus(x):
    return np.logaddexp(0, x)


def flat_log_prob(name, params, x):
    """The documented parameterisation, restated with SciPy."""
    x = x.reshape(len(x), -1)
    if name == "bernoulli":
        return scipy.stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-params))).sum(1)
    loc, raw = np.split(params, 2, axis=1)
    scale = softplus(raw) + 1e-6
    if name == "normal":
        return scipy.stats.norm.logpdf(x, loc, scale).sum(1)
    if name == "laplace":
        return scipy.stats.laplace.logpdf(x, loc, scale).sum(1)
    r = np.abs(x - loc) / scale
    energy = np.where(r <= 1, r**2 / 2, r - 0.5)
    z = np.sqrt(2 * np.pi) * (2 * scipy.stats.norm.cdf(1) - 1) + 2 * np.exp(
        -0.5
    )
    return (-energy - np.log(scale * z)).sum(1)


@given(
    name=st.sampled_from(sorted(ELEMENTWISE)),
    event_shape=st.lists(st.integers(1, 4), min_size=0, max_size=3),
    batch=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_elementwise_layers_against_scipy(name, event_shape, batch, seed):
    event_shape = tuple(event_shape)
    rng = np.random.default_rng(seed)
    cls = ELEMENTWISE[name]
    size = cls.params_size(event_shape)
    params = rng.normal(size=(batch, size)).astype("float32")
    x = rng.normal(size=(batch, *event_shape)).astype("float32")
    if name == "bernoulli":
        x = np.float32(x > 0)
    distribution = cls(event_shape)(params)
    assert tuple(distribution.batch_shape) == (batch,)
    assert tuple(distribution.event_shape) == event_shape
    np.testing.assert_allclose(
        numpy(distribution.log_prob(x)),
        flat_log_prob(name, params.astype("float64"), x),
        rtol=1e-5,
        atol=1e-5,
    )


@given(
    name=st.sampled_from(sorted(ELEMENTWISE)),
    inner=st.lists(st.integers(1, 3), min_size=1, max_size=2),
    channels=st.integers(1, 3),
)
def test_channels_last_is_the_flat_layout_transposed(name, inner, channels):
    event_shape = (*inner, channels)
    cls = ELEMENTWISE[name]
    k = cls.params_size(1)
    parts = np.random.default_rng(0).normal(size=(k, 2, *event_shape))
    parts = parts.astype("float32")
    flat = np.concatenate(list(parts.reshape(k, 2, -1)), axis=-1)
    last = np.concatenate(list(parts), axis=-1)
    x = np.ones((2, *event_shape), "float32")
    np.testing.assert_allclose(
        numpy(cls(event_shape)(flat).log_prob(x)),
        numpy(cls(event_shape)(last).log_prob(x)),
        rtol=1e-6,
    )


def test_more_than_one_batch_dimension():
    distribution = layers.IndependentNormal((2, 3))(np.zeros((5, 4, 12)))
    assert tuple(distribution.batch_shape) == (5, 4)
    conv = layers.IndependentNormal((2, 3))(np.zeros((5, 4, 2, 6)))
    assert tuple(conv.batch_shape) == (5, 4)


def test_multivariate_normals_against_scipy():
    rng = np.random.default_rng(1)
    x = rng.normal(size=3).astype("float32")
    params = rng.normal(size=(1, 6)).astype("float32")
    np.testing.assert_allclose(
        numpy(layers.MultivariateNormalDiag(3)(params).log_prob(x)),
        scipy.stats.multivariate_normal.logpdf(
            x, params[0, :3], np.diag((softplus(params[0, 3:]) + 1e-6) ** 2)
        ),
        rtol=1e-5,
    )
    params = rng.normal(size=(1, 9)).astype("float32")
    # The order of tfb.FillScaleTriL, in its documentation:
    # [1, 2, 3, 4, 5, 6] -> [[4, 0, 0], [6, 5, 0], [3, 2, 1]].
    a, b, c, d, e, f = params[0, 3:]
    scale = np.array([[d, 0, 0], [f, e, 0], [c, b, a]], "float64")
    np.fill_diagonal(scale, softplus(np.diag(scale)) + 1e-5)
    np.testing.assert_allclose(
        numpy(layers.MultivariateNormalTriL(3)(params).log_prob(x)),
        scipy.stats.multivariate_normal.logpdf(
            x, params[0, :3], scale @ scale.T
        ),
        rtol=1e-5,
    )


@pytest.mark.parametrize("mode", ["learned", "shared", "optimal", 0.5])
@pytest.mark.parametrize("name", ["normal", "laplace", "huber"])
def test_scale_modes(name, mode):
    cls = ELEMENTWISE[name]
    layer = cls((2, 3), scale=mode)
    size = cls.params_size((2, 3), scale=mode)
    assert size == (12 if mode == "learned" else 6)
    distribution = layer(np.zeros((4, size), "float32")).distribution
    expected = {
        "learned": np.log(2.0) + 1e-6,  # softplus(0)
        "shared": 1.0 + 1e-6,
        "optimal": 1.0,
        0.5: 0.5,
    }[mode]
    np.testing.assert_allclose(numpy(distribution.scale), expected, rtol=1e-6)
    assert len(layer.trainable_weights) == (mode == "shared")
    with pytest.raises(ValueError, match=f"params_size={size}.*Received: 7"):
        layer(np.zeros((4, 7), "float32"))


def test_learned_and_shared_delta():
    assert layers.IndependentHuber.params_size(5, delta="learned") == 15
    layer = layers.IndependentHuber(5, scale="shared", delta="shared")
    layer(np.zeros((2, 5), "float32"))
    assert len(layer.trainable_weights) == 2


@pytest.mark.parametrize("name", ["normal", "laplace", "huber"])
@pytest.mark.parametrize("tails", [0.0, 0.3])
def test_optimal_scale_maximises_the_likelihood(name, tails):
    """Against SciPy's scalar maximiser of the density restated above."""
    rng = np.random.default_rng(2)
    loc = rng.normal(size=(8, 10)).astype("float32")
    x = loc + 0.3 * rng.normal(size=(8, 10)).astype("float32")
    x += np.float32(50 * (rng.random((8, 10)) < tails))
    layer = ELEMENTWISE[name](10, scale="optimal")

    def loss(log_scale):
        raw = np.log(np.expm1(np.exp(log_scale)))
        params = np.concatenate([loc, np.full_like(loc, raw)], axis=1)
        return -flat_log_prob(name, params.astype("float64"), x).sum()

    best = scipy.optimize.minimize_scalar(
        loss, bounds=(-4, 5), method="bounded", options={"xatol": 1e-6}
    )
    distribution = layer(loc, training=True)
    assert isinstance(distribution, OptimalScale)
    np.testing.assert_allclose(
        numpy(distribution.log_prob(x)).sum(), -best.fun, rtol=1e-5
    )
    # A tenth of the way from 1 to the optimum.
    moved = 0.9 + 0.1 * np.exp(best.x)
    assert float(layer.non_trainable_weights[0]) == pytest.approx(moved, 1e-3)
    evaluated = layer(loc, training=False)
    assert isinstance(evaluated, tfd.Independent)
    np.testing.assert_allclose(
        numpy(evaluated.distribution.scale), moved, rtol=1e-3
    )


def test_optimal_scale_of_perfect_reconstructions_is_the_floor():
    for cls in (layers.IndependentNormal, layers.IndependentHuber):
        layer = cls(3, scale="optimal", min_scale=1e-3)
        loc = np.ones((2, 3), "float32")
        log_prob = layer(loc, training=True).log_prob(loc)
        assert np.isfinite(numpy(log_prob)).all()


def test_scales_never_collapse():
    layer = layers.IndependentNormal(2, min_scale=0.1)
    params = np.float32([[0.0, 0.0, -1e4, -50.0]])
    np.testing.assert_allclose(numpy(layer(params).stddev()), 0.1, rtol=1e-6)
    (gradient,) = gradients(
        lambda p: layer(p).log_prob(np.zeros((1, 2), "float32")), params
    )
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", sorted(EVERY))
def test_symbolic_use_and_round_trip(name, tmp_path):
    cls = EVERY[name]
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(cls.params_size(3)),
            cls(3),
        ]
    )
    assert model.output_shape == (None, 3)
    x = np.ones((2, 5), "float32")
    distribution = model(x)
    assert isinstance(distribution, tfd.Distribution)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    y = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(
        numpy(loaded(x).log_prob(y)), numpy(distribution.log_prob(y))
    )


def test_functional_model_samples_in_the_middle(tmp_path):
    inputs = keras.Input((5,))
    posterior = layers.MultivariateNormalDiag(2)(keras.layers.Dense(4)(inputs))
    z = layers.Sample(seed=3)(posterior)
    image = keras.layers.Conv2DTranspose(2, 3, strides=2, padding="same")(
        keras.layers.Reshape((2, 2, 1))(keras.layers.Dense(4)(z))
    )
    likelihood = layers.IndependentNormal((4, 4, 1))(image)
    model = keras.Model(inputs, [posterior, likelihood])
    assert [tuple(o.shape) for o in model.outputs] == [
        (None, 2),
        (None, 4, 4, 1),
    ]
    q, p = model(np.ones((3, 5), "float32"))
    assert tuple(q.event_shape) == (2,)
    assert tuple(p.event_shape) == (4, 4, 1)
    assert tuple(p.batch_shape) == (3,)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.ones((3, 5), "float32")
    np.testing.assert_array_equal(numpy(loaded(x)[0].mean()), numpy(q.mean()))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", sorted(EVERY))
def test_mixed_precision_gives_float32_distributions(name, policy):
    keras.config.set_dtype_policy(policy)
    try:
        cls = EVERY[name]
        dense, layer = keras.layers.Dense(cls.params_size(3)), cls(3)
    finally:
        keras.config.set_dtype_policy("float32")
    params = dense(np.ones((2, 5), "float32"))
    assert keras.backend.standardize_dtype(params.dtype) in policy
    distribution = layer(params)
    assert keras.backend.standardize_dtype(distribution.dtype) == "float32"
    rebuilt = cls.from_config(layer.get_config())
    assert rebuilt.compute_dtype == "float32"


@keras.saving.register_keras_serializable("tests")
def cauchy(params):
    return tfd.Independent(tfd.Cauchy(params, 1.0), 1)


def test_distribution_lambda(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), layers.DistributionLambda(cauchy)]
    )
    assert model.output_shape == (None, 4)
    x = np.ones((2, 4), "float32")
    np.testing.assert_allclose(
        numpy(model(x).log_prob(x + 1)),
        scipy.stats.cauchy.logpdf(1.0) * 4,
        rtol=1e-6,
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded(x).distribution, tfd.Cauchy)


def test_distribution_lambda_saves_no_code():
    layer = layers.DistributionLambda(lambda t: cauchy(t))
    with pytest.raises(TypeError, match="register_keras_serializable"):
        layer.get_config()
    with pytest.raises(TypeError, match="Received: .*Tensor|Array"):
        layers.DistributionLambda(lambda t: t)(np.ones((2, 4), "float32"))


@keras.saving.register_keras_serializable("tests")
class IndependentGumbel(layers.IndependentLayer):
    parameters = ("loc", "scale")
    positive = {"scale": "learned"}

    def element_distribution(self, loc, scale):
        return tfd.Gumbel(loc, scale)


def test_a_family_of_the_users_own():
    layer = IndependentGumbel((2, 2), scale="shared")
    assert IndependentGumbel.params_size((2, 2), scale="shared") == 4
    distribution = layer(np.zeros((3, 4), "float32"))
    np.testing.assert_allclose(
        numpy(distribution.log_prob(np.ones((3, 2, 2), "float32"))),
        4 * scipy.stats.gumbel_r.logpdf(1.0),
        rtol=1e-5,
    )
    rebuilt = IndependentGumbel.from_config(layer.get_config())
    assert rebuilt.modes == {"scale": "shared"}
    with pytest.raises(ValueError, match='"?learned.*optimal|learned'):
        IndependentGumbel(3, scale="optimal")


def test_activity_regularizer_sees_the_distribution_once():
    layer = layers.MultivariateNormalDiag(
        2, activity_regularizer=lambda d: ops.sum(d.mean())
    )
    layer(np.float32([[1.0, 2.0, 0.0, 0.0]]))
    assert [float(loss) for loss in layer.losses] == [3.0]


@pytest.mark.parametrize(
    "event_shape", [0, -3, 2.5, "3", (2, 0), (2, None), True]
)
def test_event_shape_is_checked(event_shape):
    with pytest.raises(ValueError, match="positive int"):
        layers.IndependentNormal(event_shape)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "fixed"}, "'learned', 'shared', 'optimal'"),
        ({"scale": 0.0}, "positive number"),
        ({"min_scale": 0.0}, "min_scale"),
        ({"delta": "optimal"}, "`delta`"),
        ({"scale": "optimal", "delta": "shared"}, "known threshold"),
    ],
)
def test_modes_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        layers.IndependentHuber(3, **arguments)


def test_other_wrong_use():
    for cls in VECTOR.values():
        for function in (cls, cls.params_size):
            with pytest.raises(ValueError, match="takes their size"):
                function((2, 3))
            with pytest.raises(ValueError, match="positive int"):
                function(3.5)
    with pytest.raises(ValueError, match="min_scale"):
        layers.MultivariateNormalDiag(3, min_scale=-1.0)
    for modes in ({"scal": "shared"}, {"scale": "sharde"}, {"scale": True}):
        with pytest.raises(ValueError, match="Received: scal"):
            layers.IndependentNormal.params_size(4, **modes)
    assert layers.IndependentNormal(3, scale=np.float32(0.5)).modes == {
        "scale": 0.5
    }
    with pytest.raises(ValueError, match="params_size=9.*Received: 6"):
        layers.MultivariateNormalTriL(3)(np.zeros((2, 6), "float32"))
    with pytest.raises(TypeError, match="Sample draws from a distribution"):
        layers.Sample()(np.zeros((2, 6), "float32"))


def test_huber_layer_returns_our_huber():
    assert isinstance(
        layers.IndependentHuber(3)(np.zeros((1, 6))).distribution, Huber
    )


def image(channels):
    return (2, 4, 4, channels)


@pytest.mark.parametrize(
    ("layer", "shape", "meant"),
    [
        (layers.IndependentNormal(3), (2, 3), "scale='shared' or a number"),
        (layers.IndependentNormal(3, scale=0.5), (2, 6), "scale='learned'"),
        (layers.IndependentNormal((4, 4, 3)), image(3), "scale='shared' or"),
        (
            layers.IndependentNormal((4, 4, 3), scale="optimal"),
            image(6),
            "scale='learned'",
        ),
        (layers.IndependentHuber(3), (2, 9), "delta='learned'"),
        (
            layers.IndependentHuber(3, scale=1, delta="learned"),
            (2, 3),
            "delta='shared'",
        ),
        (
            layers.IndependentGamma(3),
            (2, 3),
            "concentration='shared' or a number; or for rate='shared'",
        ),
        (
            layers.DiscretizedLogisticMixture(3, 4, scale="shared"),
            (2, 36),
            "scale='learned'",
        ),
        (
            layers.Composite(
                [
                    layers.IndependentBernoulli(),
                    layers.IndependentNormal(3, scale="shared"),
                ]
            ),
            (2, 7),
            "scale='learned'",
        ),
        (
            layers.MixtureSameFamily(
                2, layers.IndependentNormal(3, scale="shared")
            ),
            (2, 14),
            "scale='learned'",
        ),
    ],
)
def test_a_width_of_other_modes_is_told(layer, shape, meant):
    name = meant.split("=")[0]
    with pytest.raises(
        ValueError,
        match=f"Received: {shape[-1]}\\b.*, which is the width for {meant}"
        f".*You forgot {name}=.*params_size",
    ):
        layer(np.zeros(shape, "float32"))


@pytest.mark.parametrize("width", [1, 2, 4, 5, 7, 12])
def test_another_wrong_width_is_not_explained(width):
    layer = layers.IndependentNormal(3, scale="shared")
    with pytest.raises(ValueError, match=f"{width}. End the layer before"):
        layer(np.zeros((2, width), "float32"))
    # Three channels of another map are not channels of the event.
    with pytest.raises(ValueError, match=r"3\. End the layer before"):
        layers.IndependentNormal((4, 4, 3))(np.zeros((2, 5, 5, 3), "float32"))


@pytest.mark.parametrize(
    "layer",
    [
        layers.IndependentZeroInflatedPoisson(3),
        layers.IndependentZeroInflatedNegativeBinomial(3),
        layers.IndependentBarron(3, scale="optimal"),
        layers.DiscretizedLogistic(3),
        layers.DiscretizedLogisticMixture(3, 2),
        layers.MixtureLogistic(3, 2),
        layers.CategoricalMixtureOfOneHotCategorical(3, 2),
        layers.LowRankMultivariateNormal(3, 1),
        layers.IndependentCategorical(3, 2),
        layers.OneHotCategorical(3),
        IndependentGumbel(3),
    ],
)
def test_a_distribution_has_the_name_of_its_layer(layer):
    """Messages then name what the user wrote, not the class inside."""
    params = np.zeros((2, layer.num_parameters), "float32")
    assert layer(params, training=True).name == type(layer).__name__


def test_the_elements_have_a_name_too():
    layer = layers.IndependentZeroInflatedPoisson(3)
    elements = layer(np.zeros((2, 6), "float32")).distribution
    assert elements.name == "ZeroInflatedPoisson"
