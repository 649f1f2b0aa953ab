"""The layers of `tfp.layers`, compared with the originals and with SciPy."""

import inspect

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from support import (
    density,
    gradients,
    numpy,
    originals,
    sample,
    tfp_originals,
)

from tfp_vae import VAE, layers
from tfp_vae.layers.heads.low_rank import LowRankMultivariateNormal
from tfp_vae.layers.heads.mixture import (
    CategoricalMixtureOfOneHotCategorical,
    MixtureLogistic,
    MixtureNormal,
    MixtureSameFamily,
)
from tfp_vae.layers.sample import to_tensor
from tfp_vae.substrate import jit, tfd, tfp_seed

OURS = {
    cls.__name__: cls
    for cls in (
        layers.IndependentBernoulli,
        layers.IndependentLogistic,
        layers.IndependentNormal,
        layers.IndependentPoisson,
        layers.MultivariateNormalTriL,
        layers.OneHotCategorical,
        CategoricalMixtureOfOneHotCategorical,
        MixtureLogistic,
        MixtureNormal,
    )
}
# A layer with the arguments of its constructor and of its `params_size`.
CASES = [
    ("IndependentBernoulli", ((),)),
    ("IndependentBernoulli", ((2, 3),)),
    ("IndependentLogistic", (4,)),
    ("IndependentLogistic", ((3, 2),)),
    ("IndependentNormal", ((),)),
    ("IndependentNormal", ((3, 2),)),
    ("IndependentPoisson", ((2, 2),)),
    ("MultivariateNormalTriL", (1,)),
    ("MultivariateNormalTriL", (4,)),
    ("OneHotCategorical", (5,)),
    ("CategoricalMixtureOfOneHotCategorical", (4, 3)),
    ("MixtureLogistic", (3,)),
    ("MixtureLogistic", (3, (2, 2))),
    ("MixtureNormal", (2,)),
    ("MixtureNormal", (3, 2)),
    ("MixtureNormal", (3, (3, 2))),
]
# Layers whose scales have a floor; the originals have none.
FLOORED = (
    "IndependentLogistic",
    "IndependentNormal",
    "MixtureLogistic",
    "MixtureNormal",
)


def ours(name, args):
    # Too small for float32.
    floor = {"min_scale": 1e-30} if name in FLOORED else {}
    return OURS[name](*args, **floor)


def assert_same(found, expected, seed=0):
    """Two distributions: shapes, means and densities of the second's draws."""
    assert tuple(found.batch_shape) == tuple(expected.batch_shape)
    assert tuple(found.event_shape) == tuple(expected.event_shape)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(
        numpy(found.mean()), numpy(expected.mean()), rtol=1e-6, atol=1e-6
    )
    x = expected.sample(seed=tfp_seed(seed))
    np.testing.assert_allclose(
        numpy(found.log_prob(x)),
        numpy(expected.log_prob(x)),
        rtol=1e-5,
        atol=1e-5,
    )


def random_params(size, batch=(7,), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*batch, size)).astype("float32")


@originals
@pytest.mark.parametrize(("name", "args"), CASES)
def test_same_distribution_as_the_original(name, args):
    original = getattr(tfp_originals(), name)
    size = OURS[name].params_size(*args)
    assert size == original.params_size(*args)
    for batch in ((7,), (3, 5)):
        params = random_params(size, batch)
        assert_same(ours(name, args)(params), original(*args)(params))


@originals
def test_same_mixture_of_any_layer_as_the_original():
    for name, args in [
        ("MultivariateNormalTriL", (2,)),
        ("IndependentPoisson", (3,)),
        ("IndependentNormal", ((3, 2),)),
    ]:
        original = getattr(tfp_originals(), name)
        size = MixtureSameFamily.params_size(3, OURS[name].params_size(*args))
        assert size == tfp_originals().MixtureSameFamily.params_size(
            3, original.params_size(*args)
        )
        params = random_params(size)
        assert_same(
            MixtureSameFamily(3, ours(name, args))(params),
            tfp_originals().MixtureSameFamily(3, original(*args))(params),
        )


@keras.saving.register_keras_serializable("tests")
def laplace(params):
    loc, log_scale = ops.split(params, 2, axis=-1)
    return tfd.Independent(tfd.Laplace(loc, ops.exp(log_scale)), 1)


@originals
def test_same_lambda_as_the_original():
    params = random_params(6)
    assert_same(
        layers.DistributionLambda(laplace)(params),
        tfp_originals().DistributionLambda(laplace)(params),
    )


@originals
@pytest.mark.parametrize("name", ["sample", "mean", "stddev", "variance"])
def test_same_tensor_as_the_original(name):
    """Only the shape of `sample`: the two draw differently."""
    method = getattr(tfd.Distribution, name)
    params = random_params(4)
    # TFP takes the second by position, too.
    expected = tfp_originals().MultivariateNormalTriL(2, method)(
        random_params(5)
    )
    found = layers.MultivariateNormalTriL(2, convert_to_tensor_fn=method)(
        random_params(5)
    )
    found, expected = (
        numpy(ops.convert_to_tensor(d)) for d in (found, expected)
    )
    assert found.shape == expected.shape == (7, 2)
    if name != "sample":
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    # A lambda by position in both.
    found = layers.DistributionLambda(laplace, method)(params)
    assert ops.convert_to_tensor(found).shape == (7, 2)


@originals
def test_weights_trained_with_the_original_carry_over():
    import tf_keras

    size = MixtureNormal.params_size(4, 2)
    old = tf_keras.Sequential(
        [
            tf_keras.layers.InputLayer((3,)),
            tf_keras.layers.Dense(size),
            tfp_originals().MixtureNormal(4, 2),
        ]
    )
    new = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(size),
            MixtureNormal(4, 2, min_scale=1e-30),
        ]
    )
    new.set_weights(old.get_weights())
    x = random_params(3)
    assert_same(new(x), old(x))


@originals
@pytest.mark.parametrize(
    "cls",
    [
        CategoricalMixtureOfOneHotCategorical,
        layers.DistributionLambda,
        MixtureLogistic,
        MixtureNormal,
        MixtureSameFamily,
    ],
)
def test_arguments_come_in_the_order_of_the_original(cls):
    """Except for checks and dtypes of draws, which ours lack."""
    names = list(
        inspect.signature(getattr(tfp_originals(), cls.__name__)).parameters
    )
    names = [n for n in names if n not in ("sample_dtype", "validate_args")]
    found = list(inspect.signature(cls).parameters)
    assert found[: len(names) - 1] == names[:-1]  # the last is **kwargs


# New layers, on both backends.


def restated(name, num_components, params, x):
    """log p(x) of a mixture by its documented parameterisation, in float64."""
    params, x = params.astype("float64"), x.astype("float64")
    batch = len(params)
    logits, rest = np.split(params, [num_components], axis=1)
    rest = rest.reshape(batch, num_components, -1)
    x = x.reshape(batch, 1, -1)
    if name == "CategoricalMixtureOfOneHotCategorical":
        each = (x * scipy.special.log_softmax(rest, axis=-1)).sum(-1)
    else:
        loc, raw = np.split(rest, 2, axis=-1)
        family = {
            "MixtureNormal": scipy.stats.norm,
            "MixtureLogistic": scipy.stats.logistic,
        }[name]
        scale = np.logaddexp(0, raw) + 1e-6
        each = family.logpdf(x, loc, scale).sum(-1)
    return scipy.special.logsumexp(
        scipy.special.log_softmax(logits, axis=-1) + each, axis=-1
    )


@given(
    name=st.sampled_from(["MixtureNormal", "MixtureLogistic"]),
    num_components=st.integers(1, 3),
    event_shape=st.lists(st.integers(1, 3), min_size=0, max_size=3),
    batch=st.integers(1, 3),
)
def test_mixtures_against_scipy(name, num_components, event_shape, batch):
    """Small sizes, so that batch, components and event often agree."""
    event_shape = tuple(event_shape)
    size = OURS[name].params_size(num_components, event_shape)
    assert size == num_components * (1 + 2 * int(np.prod(event_shape)))
    params = random_params(size, (batch,))
    x = np.random.default_rng(1).normal(size=(batch, *event_shape))
    x = x.astype("float32")
    found, *shapes = density(OURS[name](num_components, event_shape), params, x)
    assert shapes == [(batch,), event_shape]
    np.testing.assert_allclose(
        found,
        restated(name, num_components, params, x),
        rtol=1e-5,
        atol=1e-5,
    )


def test_categorical_mixture_against_numpy():
    params = random_params(
        CategoricalMixtureOfOneHotCategorical.params_size(4, 3)
    )
    distribution = CategoricalMixtureOfOneHotCategorical(4, 3)(params)
    every = np.eye(4, dtype="float32")
    expected = np.stack(
        [
            restated(
                "CategoricalMixtureOfOneHotCategorical",
                3,
                params,
                np.tile(one, (7, 1)),
            )
            for one in every
        ],
        axis=1,
    )
    np.testing.assert_allclose(
        numpy(distribution.log_prob(every[:, None])).T, expected, rtol=1e-5
    )
    np.testing.assert_allclose(
        numpy(distribution.mean()), np.exp(expected), rtol=1e-5
    )


def test_draws_of_a_mixture():
    """Their mean and second moment, within five standard errors."""
    params = random_params(MixtureNormal.params_size(3, 2), (1,))
    logits, rest = np.split(params[0].astype("float64"), [3])
    loc, raw = np.split(rest.reshape(3, 4), 2, axis=1)
    weights = scipy.special.softmax(logits)
    scale = np.logaddexp(0, raw) + 1e-6
    draws = sample(MixtureNormal(3, 2)(params), 20_000)[:, 0].astype("float64")
    for power, each in ((1, loc), (2, loc**2 + scale**2)):
        moment = draws**power
        error = moment.std(axis=0) / np.sqrt(len(draws))
        assert (np.abs(moment.mean(0) - weights @ each) < 5 * error).all()


def test_mixture_of_a_function():
    layer = MixtureSameFamily(2, laplace)
    params = random_params(2 * (1 + 4))
    weights = scipy.special.log_softmax(params[:, :2].astype("float64"), -1)
    loc, log_scale = np.split(params[:, 2:].reshape(7, 2, 4), 2, axis=-1)
    x = random_params(2, seed=1)
    each = scipy.stats.laplace.logpdf(x[:, None], loc, np.exp(log_scale))
    np.testing.assert_allclose(
        numpy(layer(params).log_prob(x)),
        scipy.special.logsumexp(weights + each.sum(-1), axis=-1),
        rtol=1e-5,
    )
    assert layer.compute_output_shape((None, 10)) == (None, 2)
    with pytest.raises(TypeError, match="registered|register_keras"):
        MixtureSameFamily(2, lambda t: laplace(t)).get_config()


def covariance(params, size, rank, floor):
    params = params.astype("float64")
    scale = np.logaddexp(0, params[size : 2 * size]) + floor
    factor = params[2 * size :].reshape(size, rank)
    return np.diag(scale**2) + factor @ factor.T


@pytest.mark.parametrize(("size", "rank"), [(1, 1), (4, 2), (3, 5)])
def test_low_rank_normal_against_scipy(size, rank):
    width = LowRankMultivariateNormal.params_size(size, rank)
    assert width == size * (2 + rank)
    params = random_params(width, (3,))
    distribution = LowRankMultivariateNormal(size, rank)(params)
    x = random_params(size, (3,), seed=1)
    compiled = numpy(
        jit(lambda p, x: LowRankMultivariateNormal(size, rank)(p).log_prob(x))(
            params, x
        )
    )
    np.testing.assert_allclose(
        numpy(distribution.mean()), params[:, :size], rtol=1e-6
    )
    for i in range(3):
        exact = covariance(params[i], size, rank, 1e-3)
        # The factor is the documented loss of digits, here of up to 100.
        expected = scipy.stats.multivariate_normal.logpdf(
            x[i], params[i, :size], exact
        )
        for found in (numpy(distribution.log_prob(x))[i], compiled[i]):
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(
            numpy(distribution.covariance())[i], exact, rtol=1e-5, atol=1e-6
        )


def test_draws_of_a_low_rank_normal():
    """Each entry of the covariance, within five standard errors."""
    params = random_params(LowRankMultivariateNormal.params_size(3, 2), (1,))
    exact = covariance(params[0], 3, 2, 1e-3)
    draws = sample(LowRankMultivariateNormal(3, 2)(params), 20_000)[:, 0]
    centred = draws.astype("float64") - params[0, :3]
    found = centred.T @ centred / len(draws)
    variances = np.diag(exact)
    error = np.sqrt((np.outer(variances, variances) + exact**2) / len(draws))
    assert (np.abs(found - exact) < 5 * error).all()


def test_low_rank_normal_of_no_rank_and_its_gradients():
    params = random_params(LowRankMultivariateNormal.params_size(4, 2))
    params[:, 8:] = 0.0
    x = random_params(4, seed=1)
    layer = LowRankMultivariateNormal(4, 2)
    diagonal = layers.MultivariateNormalDiag(4, min_scale=1e-3)
    np.testing.assert_allclose(
        numpy(layer(params).log_prob(x)),
        numpy(diagonal(params[:, :8]).log_prob(x)),
        rtol=1e-5,
    )
    for raw in (-1e4, -20.0, 0.0, 1e4):
        params[:, 4:8] = raw
        for function in (
            lambda p: layer(p).log_prob(x),
            lambda p: ops.sum(layer(p).sample(seed=tfp_seed(0)), axis=-1),
        ):
            (gradient,) = gradients(function, params)
            assert np.isfinite(gradient).all()


MODELS = {
    "normal": (lambda: MixtureNormal(3), 9, ()),
    "normals": (lambda: MixtureNormal(2, (2, 2), min_scale=0.1), 18, (2, 2)),
    "logistic": (lambda: MixtureLogistic(3, 2), 15, (2,)),
    "onehot": (lambda: CategoricalMixtureOfOneHotCategorical(4, 2), 10, (4,)),
    "tril": (
        lambda: MixtureSameFamily(2, layers.MultivariateNormalTriL(2)),
        12,
        (2,),
    ),
    "shared": (
        lambda: MixtureSameFamily(
            2, layers.IndependentStudentT(3, scale="shared")
        ),
        8,
        (3,),
    ),
    "function": (lambda: MixtureSameFamily(2, laplace), 10, (2,)),
    "rank": (lambda: LowRankMultivariateNormal(3, 2), 12, (3,)),
    "ranks": (
        lambda: MixtureSameFamily(2, LowRankMultivariateNormal(3, 1)),
        20,
        (3,),
    ),
}


class Subclassed(keras.Model):
    def __init__(self, width, layer):
        super().__init__()
        self.dense, self.layer = keras.layers.Dense(width), layer

    def call(self, x):
        return self.layer(self.dense(x))


@pytest.mark.versions
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_and_a_file(name, tmp_path):
    make, width, event_shape = MODELS[name]
    x = random_params(5, (4,))
    y = np.ones((4, *event_shape), "float32")
    dense, layer = keras.layers.Dense(width), make()
    sequential = keras.Sequential([keras.Input((5,)), dense, layer])
    assert sequential.output_shape == (None, *event_shape)
    expected, *_ = density(sequential, x, y)
    assert expected.shape == (4,)
    inputs = keras.Input((5,))
    functional = keras.Model(inputs, layer(dense(inputs)))
    subclassed = Subclassed(width, make())
    subclassed(x)
    subclassed.set_weights(sequential.get_weights())
    sequential.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for model in (functional, subclassed, loaded):
        found, *_ = density(model, x, y)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["normals", "onehot", "tril", "rank"])
def test_trains_a_vae_on_data_of_its_kind(name):
    make, width, event_shape = MODELS[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, *event_shape)).astype("float32")
    if name == "onehot":
        x = np.eye(4, dtype="float32")[rng.integers(0, 4, 16)]
    encoder = [
        keras.Input(event_shape),
        keras.layers.Flatten(),
        keras.layers.Dense(5),
        layers.MultivariateNormalTriL(2),
    ]
    decoder = [keras.Input((2,)), keras.layers.Dense(width), make()]
    vae = VAE(keras.Sequential(encoder), keras.Sequential(decoder), seed=0)
    vae.compile(keras.optimizers.Adam(1e-3))
    history = vae.fit(x, batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert vae.predict(x, verbose=0)["mean"].shape == x.shape


@pytest.mark.parametrize("name", MODELS)
def test_precision_and_width(name):
    make, width, _ = MODELS[name]
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = make()
    finally:
        keras.config.set_dtype_policy("float32")
    distribution = layer(ops.ones((3, width), "float16"))
    assert keras.backend.standardize_dtype(distribution.dtype) == "float32"
    assert tuple(make()(np.ones((2, 3, width))).batch_shape) == (2, 3)
    wrong = width + 1
    with pytest.raises(ValueError, match=f"params_size=.*Received: {wrong}"):
        make()(np.ones((3, wrong), "float32"))


def test_wrong_width_gives_the_right_one():
    for layer, width in (
        (MixtureNormal(3, 2), 15),
        (CategoricalMixtureOfOneHotCategorical(4, 2), 10),
        (LowRankMultivariateNormal(3, 2), 12),
    ):
        with pytest.raises(ValueError, match=f"params_size={width} .*: 5"):
            layer(np.ones((3, 5), "float32"))
    layer = MixtureSameFamily(3, layers.IndependentNormal(2))
    with pytest.raises(
        ValueError, match=r"params_size=3 \* .*=4 .*Received: 5"
    ):
        layer(np.ones((3, 18), "float32"))


def test_wrong_arguments():
    for number in (0, 2.0, True, None):
        for make in (
            lambda n: MixtureNormal(n, 2),
            lambda n: MixtureNormal.params_size(n, 2),
            lambda n: CategoricalMixtureOfOneHotCategorical(3, n),
            lambda n: LowRankMultivariateNormal(3, n),
            lambda n: LowRankMultivariateNormal.params_size(3, n),
        ):
            with pytest.raises(ValueError, match="whole number"):
                make(number)
    with pytest.raises(TypeError, match="component_layer"):
        MixtureSameFamily(3, 2)
    with pytest.raises(ValueError, match="optimal scale"):
        MixtureSameFamily(3, layers.IndependentNormal(2, scale="optimal"))
    with pytest.raises(ValueError, match="positive int"):
        MixtureNormal(3, (2, 0))
    with pytest.raises(ValueError, match="min_scale"):
        MixtureNormal(3, 2, min_scale=0.0)


# A distribution as a tensor.


@keras.saving.register_keras_serializable("tests")
def noisy(distribution, seed):
    return distribution.mean() + 0.1 * distribution.sample(seed=seed)


def diag(**kwargs):
    return layers.MultivariateNormalDiag(2, **kwargs)


def test_a_distribution_as_the_tensor_asked_for():
    params = random_params(4)
    loc, scale = params[:, :2], np.logaddexp(0, params[:, 2:]) + 1e-6
    for name, expected in (
        ("mean", loc),
        ("mode", loc),
        ("stddev", scale),
        ("variance", scale**2),
    ):
        for way in (name, getattr(tfd.Distribution, name)):
            layer = diag(convert_to_tensor_fn=way)
            assert layer.convert_to_tensor_fn == name
            distribution = layer(params)
            assert isinstance(distribution, tfd.MultivariateNormalDiag)
            for tensor in (
                ops.convert_to_tensor(distribution),
                to_tensor(distribution),
                to_tensor(diag()(params), way),
            ):
                np.testing.assert_allclose(numpy(tensor), expected, rtol=1e-5)
    # By default the distribution is unchanged.
    np.testing.assert_array_equal(
        numpy(distribution.log_prob(loc)), numpy(diag()(params).log_prob(loc))
    )


def test_one_draw_for_all_who_take_it():
    distribution = diag(convert_to_tensor_fn="sample")(random_params(4))
    first = numpy(ops.convert_to_tensor(distribution))
    for again in (to_tensor(distribution), np.asarray(distribution)):
        np.testing.assert_array_equal(numpy(again), first)
    # An explicit conversion makes another draw.
    assert (numpy(layers.Sample()(distribution)) != first).all()
    assert (numpy(to_tensor(distribution, "sample")) != first).all()
    np.testing.assert_array_equal(
        numpy(to_tensor(distribution, "sample", seed=3)),
        numpy(to_tensor(distribution, "sample", seed=3)),
    )


def test_layers_and_models_take_it_where_it_is_asked_for():
    params = random_params(4)
    dense = keras.layers.Dense(3)
    decoder = keras.Sequential([keras.Input((2,)), dense])
    distribution = diag(convert_to_tensor_fn="mean")(params)
    expected = numpy(dense(params[:, :2]))
    for taker in (dense, decoder):
        np.testing.assert_allclose(
            numpy(taker(distribution)), expected, rtol=1e-6
        )
    with pytest.raises(ValueError, match="Only input tensors"):
        dense(diag()(params))


@pytest.mark.parametrize("name", ["Bernoulli", "Normal", "Huber"])
def test_independent_variables_as_a_tensor(name):
    cls = getattr(layers, f"Independent{name}")
    params = random_params(cls.params_size((2, 1)))
    distribution = cls((2, 1), convert_to_tensor_fn="mean")(params)
    assert isinstance(distribution, tfd.Independent)
    np.testing.assert_array_equal(
        numpy(ops.convert_to_tensor(distribution)),
        numpy(cls((2, 1))(params).mean()),
    )


@pytest.mark.parametrize("conversion", ["sample", "mean", noisy])
def test_encoder_into_decoder(conversion, tmp_path):
    """The pattern of TFP's tutorial on variational autoencoders."""
    encoder = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4),
            diag(convert_to_tensor_fn=conversion),
        ]
    )
    decoder = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(6), layers.IndependentNormal(3)]
    )
    model = keras.Model(encoder.inputs[0], decoder(encoder.outputs[0]))
    x = random_params(3)
    likelihood = model(x)
    assert isinstance(likelihood, tfd.Independent)
    again = numpy(model(x).mean())
    assert (again == numpy(likelihood.mean())).all() == (conversion == "mean")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded(x).event_shape == (3,)
    assert encoder.layers[-1].convert_to_tensor_fn == conversion
    copy = type(encoder.layers[-1]).from_config(encoder.layers[-1].get_config())
    assert copy.convert_to_tensor_fn == conversion


def test_in_the_middle_under_fit_and_predict():
    """Each step makes a new draw, also where Keras compiles the step."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, kernel_initializer="zeros"),
            diag(convert_to_tensor_fn="sample"),
            keras.layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, y = random_params(3, (64,)), np.zeros((64, 1), "float32")
    losses = model.fit(x, y, epochs=2, batch_size=64, shuffle=False, verbose=0)
    assert len(set(losses.history["loss"])) == 2
    drawn = model.predict(x, verbose=0)
    assert drawn.shape == (64, 1)
    # Sums of two draws of deviation softplus(0) = log 2.
    assert abs(drawn.std() / (np.sqrt(2) * np.log(2)) - 1) < 5 / np.sqrt(128)


def test_mixed_precision_casts_the_tensor():
    distribution = diag(convert_to_tensor_fn="mean")(random_params(4))
    dense = keras.layers.Dense(3, dtype="mixed_float16")
    output = dense(distribution)
    assert keras.backend.standardize_dtype(output.dtype) == "float16"


def test_a_distribution_that_others_share_stays_as_it_is():
    shared = tfd.MultivariateNormalDiag(np.zeros((7, 2), "float32"))
    layer = layers.DistributionLambda(lambda t: shared, "mean")
    assert np.asarray(layer(random_params(4))).shape == (7, 2)
    assert not hasattr(shared, "__array__")


def test_optimal_scale_in_training_is_a_tensor_too():
    layer = layers.IndependentNormal(
        2, scale="optimal", convert_to_tensor_fn="mean"
    )
    loc = random_params(2)
    for training in (True, False):
        found = ops.convert_to_tensor(layer(loc, training=training))
        np.testing.assert_array_equal(numpy(found), loc)


def test_conversions_that_do_not_exist():
    for wrong in ("median", 3):
        with pytest.raises(ValueError, match="'sample', 'mean'"):
            diag(convert_to_tensor_fn=wrong)
    layer = diag(convert_to_tensor_fn=lambda d: d.mean())
    with pytest.raises(TypeError, match="register_keras_serializable"):
        layer.get_config()
