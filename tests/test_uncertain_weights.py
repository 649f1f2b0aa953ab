"""Layers with uncertain weights, beside closed forms and their originals."""

import warnings

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops
from support import BACKEND, gradients, numpy, originals, tfp_originals

import tfp_vae
from tfp_vae import layers
from tfp_vae.evaluation import posterior_predictive
from tfp_vae.losses import NegativeLogLikelihood, scaled_kl
from tfp_vae.substrate import jit_with_variables, tfd, tfp

RNG = np.random.default_rng(0)
N = 48
X = RNG.normal(size=(N, 3)).astype("float32")
Y = (X @ [[1.0], [-2.0], [0.5]] + RNG.normal(size=(N, 1))).astype("float32")

DENSE = [
    "DenseReparameterization",
    "DenseLocalReparameterization",
    "DenseFlipout",
]
CONVOLUTIONS = [
    (f"Convolution{rank}D{estimator}", rank)
    for rank in (1, 2, 3)
    for estimator in ("Reparameterization", "Flipout")
]
BUILT_OF_FUNCTIONS = [*DENSE, *(name for name, _ in CONVOLUTIONS)]


@keras.saving.register_keras_serializable("tests")
def standard_normal(dtype, shape, name, trainable, add_variable_fn):
    """As functions for the originals are written."""
    one = dtype.as_numpy_dtype(1)
    normal = tfd.Normal(loc=ops.zeros(shape, dtype), scale=one)
    return tfd.Independent(normal, reinterpreted_batch_ndims=len(shape))


@keras.saving.register_keras_serializable("tests")
def laplace_weights(dtype, shape, name, trainable, add_variable_fn):
    loc = add_variable_fn(f"{name}_loc", shape, dtype, "zeros")
    raw = add_variable_fn(
        name=f"{name}_raw", shape=shape, initializer="ones", trainable=trainable
    )
    return tfd.Independent(tfd.Laplace(loc, ops.softplus(raw)), len(shape))


@keras.saving.register_keras_serializable("tests")
def estimated_kl(q, p, w):
    return q.log_prob(w) - p.log_prob(w)


@keras.saving.register_keras_serializable("tests")
def any_gaussian(kernel_size, bias_size=0, dtype=None):
    size = kernel_size + bias_size
    return keras.Sequential(
        [
            layers.VariableLayer(
                layers.MultivariateNormalTriL.params_size(size), dtype=dtype
            ),
            layers.MultivariateNormalTriL(size),
        ]
    )


@keras.saving.register_keras_serializable("tests")
def unit_gaussian(kernel_size, bias_size=0, dtype=None):
    zeros = np.zeros(kernel_size + bias_size, "float32")
    return lambda x: tfd.MultivariateNormalDiag(zeros, zeros + 1)


def exact_kl(loc, scale):
    """From the standard normal, summed."""
    loc, scale = np.float64(loc), np.float64(scale)
    return (0.5 * (scale**2 + loc**2 - 1) - np.log(scale)).sum()


def parameters(layer):
    """Means and scales of the kernel, worked out by numpy, and the bias."""
    loc, raw, *bias = map(np.float64, layer.get_weights())
    return loc, np.logaddexp(0, raw) + np.finfo("float32").eps, *bias


# Beside the originals.


@originals
@pytest.mark.parametrize("name", BUILT_OF_FUNCTIONS)
@pytest.mark.parametrize("is_bias_uncertain", [False, True])
def test_same_as_the_original(name, is_bias_uncertain):
    """Weights, divergences, and outputs without the noise."""
    arguments = {"activation": "tanh"}
    x = X
    if name.startswith("Conv"):
        rank = int(name[11])
        arguments |= {
            "filters": 2,
            "kernel_size": 2,
            "strides": 2 if is_bias_uncertain else 1,
            "padding": "SAME" if rank == 2 else "valid",
        }
        x = RNG.normal(size=(2, *[5] * rank, 3)).astype("float32")
    else:
        arguments["units"] = 4
    pair = []
    for home, mean in (
        (tfp_originals(), lambda d: d.mean()),
        (layers, tfd.Distribution.mean),
    ):
        more = {"kernel_posterior_tensor_fn": mean}
        if is_bias_uncertain:
            more |= {
                "bias_posterior_fn": home.default_mean_field_normal_fn(),
                "bias_prior_fn": home.default_multivariate_normal_fn,
                "bias_posterior_tensor_fn": mean,
            }
        pair.append(getattr(home, name)(**arguments, **more))
    original, ours = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own `add_variable`
        original(x)
    ours(x)
    assert [w.path.split("/")[-1] for w in ours.weights] == [
        w.name.split("/")[-1].split(":")[0] for w in original.weights
    ]
    ours.set_weights(original.get_weights())
    np.testing.assert_allclose(
        numpy(ours(x)), numpy(original(x)), rtol=1e-5, atol=1e-6
    )
    for part in ("kernel_posterior", "bias_posterior", "kernel_prior"):
        found, expected = getattr(ours, part), getattr(original, part)
        assert found.event_shape == expected.event_shape
        for statistic in ("mean", "stddev"):
            np.testing.assert_allclose(
                numpy(getattr(found, statistic)()),
                numpy(getattr(expected, statistic)()),
                rtol=1e-6,
            )
    np.testing.assert_allclose(
        [float(v) for v in ours.losses],
        [float(v) for v in original.losses],
        rtol=1e-5,
    )


@originals
@pytest.mark.parametrize("use_bias", [True, False])
def test_same_dense_variational_as_the_original(use_bias):
    import tf_keras

    def posterior(kernel_size, bias_size, dtype):
        size = kernel_size + bias_size
        return tf_keras.Sequential(
            [
                tfp_originals().VariableLayer(
                    tfp_originals().MultivariateNormalTriL.params_size(size)
                ),
                tfp_originals().MultivariateNormalTriL(
                    size, lambda d: d.mean()
                ),
            ]
        )

    class Mean(layers.MultivariateNormalTriL):
        def __init__(self, size):
            super().__init__(size, convert_to_tensor_fn="mean")

    def ours_posterior(kernel_size, bias_size, dtype):
        model = any_gaussian(kernel_size, bias_size, dtype)
        model.pop()
        model.add(Mean(kernel_size + bias_size))
        return model

    for exact in (True, False):
        arguments = {
            "kl_weight": 0.25,
            "kl_use_exact": exact,
            "activation": "tanh",
            "use_bias": use_bias,
        }
        original = tfp_originals().DenseVariational(
            2, posterior, unit_gaussian, **arguments
        )
        ours = layers.DenseVariational(
            2, ours_posterior, unit_gaussian, **arguments
        )
        original(X), ours(X)
        (weights,) = original.get_weights()
        weights = RNG.normal(size=weights.shape).astype("float32")
        original.set_weights([weights])
        ours.set_weights([weights])
        np.testing.assert_allclose(
            numpy(ours(X)), numpy(original(X)), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            float(ours.losses[0]), float(original.losses[0]), rtol=1e-5
        )


# The noise.


@pytest.mark.parametrize("name", DENSE)
def test_variance_of_the_outputs(name):
    """Of each output and of the mean over a batch of copies.

    One kernel for the batch gives the mean the variance of an example; where
    examples are independent it is a B-th of that.
    """
    batch, draws = 8, 1500
    layer = getattr(layers, name)(2)
    x = np.tile(X[:1], (batch, 1))
    layer(x)
    call = jit_with_variables(lambda x: layer(x), layer.variables)
    found = np.stack([numpy(call(x)) for _ in range(draws)])
    loc, scale, bias = parameters(layer)
    exact = np.float64(x[0]) ** 2 @ scale**2
    # Five standard errors of a variance of normal draws.
    tolerance = 5 * np.sqrt(2 / draws)
    np.testing.assert_allclose(found.var(0)[3], exact, rtol=tolerance)
    np.testing.assert_allclose(
        found.mean((0, 1)),
        x[0] @ loc + bias,
        atol=5 * (exact.max() / draws) ** 0.5,
    )
    shared = 1 if name == "DenseReparameterization" else batch
    np.testing.assert_allclose(
        found.mean(1).var(0), exact / shared, rtol=tolerance
    )


@pytest.mark.parametrize(("name", "rank"), CONVOLUTIONS[2:4])
def test_variance_of_a_convolution(name, rank):
    """Of a kernel of one pixel, which is a dense layer at each place."""
    draws = 1500
    layer = getattr(layers, name)(2, 1)
    x = np.tile(X[0], (4, *[2] * rank, 1))
    layer(x)
    call = jit_with_variables(lambda x: layer(x), layer.variables)
    found = np.stack([numpy(call(x)) for _ in range(draws)])
    _, scale, _ = parameters(layer)
    exact = np.float64(X[0]) ** 2 @ scale.reshape(3, 2) ** 2
    tolerance = 5 * np.sqrt(2 / draws)
    np.testing.assert_allclose(found.var(0)[0, 0, 0], exact, rtol=tolerance)
    shared = 1 if "Reparam" in name else 4
    np.testing.assert_allclose(
        found.mean(1).var(0)[0, 0], exact / shared, rtol=tolerance
    )


def test_seeds():
    """Repeatable, and other noise at each call, training or not."""
    first, second = (layers.DenseFlipout(2, seed=3) for _ in range(2))
    first(X), second(X)
    second.set_weights(first.get_weights())
    for _ in range(2):
        a = numpy(first(X, training=False))
        np.testing.assert_array_equal(a, numpy(second(X, training=False)))
    assert (numpy(first(X)) != a).all()


def test_gradients_are_finite_where_all_inputs_are_zero():
    layer = layers.DenseLocalReparameterization(2)
    layer(X)
    found = gradients(lambda x: layer(x), np.zeros((4, 3), "float32"))
    assert np.isfinite(found[0]).all()


# The divergence in the loss.


class Subclassed(keras.Model):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x


@pytest.mark.parametrize("name", ["DenseFlipout", "DenseReparameterization"])
@pytest.mark.parametrize(
    "kind", [tfp_vae.Sequential, keras.Sequential, Subclassed]
)
def test_fit_adds_the_divergence_once(name, kind):
    kl = scaled_kl(N)
    layer = getattr(layers, name)(
        1,
        kernel_posterior_tensor_fn="mean",
        kernel_divergence_fn=kl,
        bias_posterior_fn=None,
    )
    model = kind([layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0).history["loss"]
    loc, scale = parameters(layer)
    expected = np.square(X @ loc - Y).mean() + exact_kl(loc, scale) / N
    np.testing.assert_allclose(history, expected, rtol=1e-5)
    np.testing.assert_allclose(
        model.evaluate(X, Y, verbose=0), expected, rtol=1e-5
    )


def closed_form(prior_scale=1.0):
    """The posterior of the weights of a line under unit noise; log p(y)."""
    inputs = np.c_[np.float64(X), np.ones(N)]
    covariance = np.linalg.inv(inputs.T @ inputs + np.eye(4) / prior_scale**2)
    mean = covariance @ inputs.T @ Y[:, 0]
    evidence = scipy.stats.multivariate_normal(
        np.zeros(N), np.eye(N) + prior_scale**2 * inputs @ inputs.T
    ).logpdf(Y[:, 0])
    return mean, covariance, evidence


def line(**arguments):
    layer = layers.DenseVariational(
        1, any_gaussian, unit_gaussian, kl_weight=1 / N, **arguments
    )
    model = tfp_vae.Sequential(
        [keras.Input((3,)), layer, layers.IndependentNormal(1, scale=1.0)]
    )
    model.compile(keras.optimizers.Adam(0.05), loss=NegativeLogLikelihood())
    return model, layer


def test_at_the_exact_posterior_the_loss_is_the_evidence_of_any_draw():
    """log q(w) - log p(w) - log p(y|w) = -log p(y), whatever w is."""
    model, layer = line()
    mean, covariance, evidence = closed_form()
    raw = tfp.math.fill_triangular_inverse
    tril = np.linalg.cholesky(covariance)
    # What `FillScaleTriL` makes the factor of.
    diagonal = np.diag(tril) - 1e-5
    tril[np.diag_indices(4)] = diagonal + np.log(-np.expm1(-diagonal))
    triangle = numpy(raw(tril.astype("float32")))
    layer.set_weights([np.r_[mean, triangle].astype("float32")])
    for _ in range(3):
        # Of sums of 48 densities in float32, over an ill-conditioned inverse.
        found = model.evaluate(X, Y, batch_size=N, verbose=0)
        assert found == pytest.approx(-evidence / N, rel=2e-5)
    q = layer.posterior(X)
    np.testing.assert_allclose(numpy(q.covariance()), covariance, rtol=1e-3)


@keras.saving.register_keras_serializable("tests")
def sixteen_draws(distribution):
    return distribution.sample(16)


def test_the_learned_posterior_is_the_closed_form():
    """By several draws of the weights at once, for little noise."""

    def posterior(*sizes):
        model = any_gaussian(*sizes)
        model.pop()
        model.add(layers.MultivariateNormalTriL(4, sixteen_draws))
        return model

    layer = layers.DenseVariational(
        1, posterior, unit_gaussian, kl_weight=1 / N, kl_use_exact=True
    )
    model = tfp_vae.Sequential(
        [keras.Input((3,)), layer, layers.IndependentNormal(1, scale=1.0)]
    )
    model.compile("adam", loss=lambda y, p: -ops.mean(p.log_prob(y)))
    mean, covariance, _ = closed_form()
    for rate, epochs in ((0.05, 200), (0.01, 100), (0.002, 100)):
        model.optimizer.learning_rate = rate
        model.fit(X, Y, batch_size=N, epochs=epochs, verbose=0)
    q = layer.posterior(X)
    stddev = np.sqrt(np.diag(covariance))
    # In standard deviations of the posterior: what the noise of the gradient
    # leaves at the last rate.
    np.testing.assert_allclose(
        (numpy(q.mean()) - mean) / stddev, np.zeros(4), atol=0.1
    )
    np.testing.assert_allclose(numpy(q.stddev()) / stddev, np.ones(4), atol=0.1)


def test_posterior_predictive():
    model, _ = line()
    draws = 60
    # As it is at first: softplus(0) on the diagonal, 0 elsewhere.
    found = posterior_predictive(model, X[:4], draws)
    inputs = np.c_[np.float64(X[:4]), np.ones(4)]
    exact = (np.log(2) + 1e-5) ** 2 * (inputs**2).sum(1)
    np.testing.assert_allclose(
        numpy(found.epistemic)[:, 0], exact, rtol=5 * np.sqrt(2 / draws)
    )
    np.testing.assert_allclose(
        numpy(found.aleatoric), np.ones((4, 1)), rtol=1e-5
    )
    np.testing.assert_allclose(
        numpy(found.distribution.variance()),
        numpy(found.epistemic + found.aleatoric),
        rtol=1e-4,
    )
    # A mixture of normals whose means are normal.
    total = scipy.stats.norm(0, np.sqrt(exact + 1)).logpdf(0.5)
    log_prob = numpy(
        found.distribution.log_prob(np.full((4, 1), 0.5, "float32"))
    )
    np.testing.assert_allclose(log_prob, total, atol=0.3)
    with pytest.raises(TypeError, match="The model returns"):
        posterior_predictive(keras.Sequential([keras.layers.Dense(1)]), X)


# Any function, any policy, saved and loaded.


def test_functions_of_a_users_own(tmp_path):
    """Variables under any transform; an estimate that uses the draw."""
    model = tfp_vae.Sequential(
        [
            keras.Input((3,)),
            layers.DenseReparameterization(
                4,
                "relu",
                kernel_posterior_fn=laplace_weights,
                kernel_prior_fn=standard_normal,
                kernel_divergence_fn=estimated_kl,
            ),
            layers.DenseFlipout(2, kernel_divergence_fn=scaled_kl(N)),
            layers.DenseVariational(
                2, any_gaussian, unit_gaussian, kl_weight=1 / N
            ),
            layers.IndependentNormal(1),
        ]
    )
    model.compile("adam", loss=NegativeLogLikelihood())
    before = model.get_weights()
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        assert (a != b).any()
    assert len(model.layers[0].trainable_weights) == 3
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.layers[0].kernel_divergence_fn is estimated_kl
    assert again.layers[1].kernel_divergence_fn.num_examples == N
    again.fit(X, Y, verbose=0)


@pytest.mark.parametrize("name", [*DENSE, "Convolution1DFlipout"])
def test_mixed_precision(name):
    dense = name.startswith("Dense")
    layer = getattr(layers, name)(
        2, *[] if dense else [1], dtype="mixed_float16"
    )
    x = X if dense else X[:, None]
    outputs = layer(x.astype("float16"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    assert {w.dtype for w in layer.trainable_weights} == {"float32"}
    (loss,) = layer.losses
    loc, scale, _ = parameters(layer)
    np.testing.assert_allclose(float(loss), exact_kl(loc, scale), rtol=1e-5)


def test_channels_first_is_channels_last_moved():
    if BACKEND == "tensorflow":
        pytest.skip("TensorFlow has no such convolution on a CPU")
    last = layers.Convolution2DReparameterization(
        2, 2, kernel_posterior_tensor_fn="mean"
    )
    first = layers.Convolution2DReparameterization(
        2, 2, kernel_posterior_tensor_fn="mean", data_format="channels_first"
    )
    x = RNG.normal(size=(2, 4, 5, 3)).astype("float32")
    expected = numpy(last(x))
    moved = np.moveaxis(x, -1, 1)
    assert tuple(first.compute_output_shape(moved.shape)) == (2, 2, 3, 4)
    first(moved)
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(
        np.moveaxis(numpy(first(moved)), 1, -1), expected, rtol=1e-5, atol=1e-6
    )


def test_uncertain_weights_in_a_vae():
    """Full variational Bayes (Kingma & Welling, appendix F)."""
    encoder = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(2),
            layers.MultivariateNormalDiag(1),
        ]
    )
    dense = layers.DenseReparameterization(3, kernel_divergence_fn=scaled_kl(N))
    decoder = keras.Sequential(
        [keras.Input((1,)), dense, layers.IndependentNormal(3, scale=1.0)]
    )
    vae = tfp_vae.VAE(encoder, decoder)
    vae.compile(keras.optimizers.SGD(0.0))
    vae.fit(X, batch_size=16, verbose=0)
    found = vae.evaluate(X, verbose=0, return_dict=True)
    loc, scale, _ = parameters(dense)
    assert found["loss"] == pytest.approx(
        found["kl"] - found["log_likelihood"] + exact_kl(loc, scale) / N,
        rel=1e-5,
    )


# Warnings and errors.


@pytest.mark.parametrize(
    ("arguments", "loss", "warns"),
    [
        ({}, "mse", True),
        ({"kernel_divergence_fn": scaled_kl(N)}, "mse", False),
        ({}, keras.losses.MeanSquaredError("sum"), False),
        ({"kernel_prior_fn": None}, "mse", False),
        (
            {"kernel_divergence_fn": lambda q, p, _: q.kl_divergence(p)},
            "mse",
            1,
        ),
    ],
)
def test_a_divergence_that_is_not_scaled(arguments, loss, warns):
    model = tfp_vae.Sequential([layers.DenseFlipout(1, **arguments)])
    for _ in range(2):  # once
        model.compile("sgd", loss)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            model.fit(X, Y, verbose=0)
        texts = [str(w.message) for w in seen]
        assert any("scaled_kl(num_examples)" in t for t in texts) == warns
        warns = False


def wrong_shape(dtype, shape, *_):
    return standard_normal(dtype, (*shape, 2), *_)


def other_variables():
    calls = []

    def make(dtype, shape, name, trainable, add_variable_fn):
        calls.append(name)
        for i in range(len(calls)):
            loc = add_variable_fn(f"loc_{i}", shape, dtype, "zeros")
        return tfd.Independent(tfd.Normal(loc, 1.0), len(shape))

    return make


REPARAMETERIZED = layers.DenseReparameterization
VARIATIONAL = layers.DenseVariational
PLANE = layers.Convolution2DFlipout
REFUSED = {
    "Independent.tfd.Normal": lambda: layers.DenseFlipout(
        1, kernel_posterior_fn=laplace_weights
    ),
    "argument `shape`": lambda: REPARAMETERIZED(
        1, kernel_posterior_fn=wrong_shape
    ),
    "What makes a kernel_prior": lambda: REPARAMETERIZED(
        1, kernel_prior_fn=lambda *_: 1
    ),
    "same variables": lambda: REPARAMETERIZED(
        1, kernel_posterior_fn=other_variables()
    ),
    "posterior of its kernel": lambda: REPARAMETERIZED(
        1, kernel_posterior_fn=None
    ),
    "a function or None": lambda: REPARAMETERIZED(1, kernel_prior_fn=3),
    "kl_weight": lambda: VARIATIONAL(1, any_gaussian, unit_gaussian, "x"),
    "make_posterior_fn is": lambda: VARIATIONAL(1, 2, unit_gaussian),
    "over vectors": lambda: VARIATIONAL(
        1, any_gaussian, lambda k, b, d: unit_gaussian(k, b + 1)
    ),
    "What make_prior_fn": lambda: VARIATIONAL(
        1, any_gaussian, lambda k, b, d: ops.ones_like
    ),
    "2 of them": lambda: PLANE(1, (2, 2, 2)),
    "'valid', 'same'": lambda: PLANE(1, 2, padding="causal"),
    "strided or dilated": lambda: PLANE(1, 2, strides=2, dilation_rate=2),
    "number of examples": lambda: scaled_kl(0),
    "one size": lambda: layers.BlockwiseInitializer(["zeros"], [1, 2]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message):
    with pytest.raises((TypeError, ValueError), match=message):
        REFUSED[message]()(X)


# The parts they are made of.


def test_variable_layer_and_blockwise_initializer(tmp_path):
    initializer = layers.BlockwiseInitializer(
        ["zeros", keras.initializers.Constant(2.0)], sizes=[1, 2]
    )
    layer = layers.VariableLayer((2, 3), "float16", "relu", initializer)
    expected = np.array([[0, 2, 2], [0, 2, 2]])
    for inputs in (X, None, 0.0):
        np.testing.assert_array_equal(numpy(layer(inputs)), expected)
    again = layers.VariableLayer.from_config(layer.get_config())
    np.testing.assert_array_equal(numpy(again(None)), expected)
    with pytest.raises(ValueError, match="sum of the sizes"):
        initializer((4,))
    # A distribution that trains and depends on nothing.
    model = tfp_vae.Sequential(
        [
            layers.VariableLayer(2),
            layers.DistributionLambda(
                lambda t: tfd.Normal(t[0], ops.exp(t[1]))
            ),
        ]
    )
    assert float(model(0.0).stddev()) == 1.0


def test_default_loc_scale():
    made = []

    def add_variable(name, shape, initializer, **_):
        made.append(name)
        return ops.zeros(shape)

    make = layers.default_loc_scale_fn()
    _, scale = make("float32", [2], "w", True, add_variable)
    assert made == ["w_loc", "w_untransformed_scale"]
    np.testing.assert_allclose(numpy(scale), np.log(2), rtol=1e-6)
    singular = layers.default_loc_scale_fn(is_singular=True)
    assert singular("float32", [2], "w", True, add_variable)[1] is None


class RBF(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.amplitude = self.add_weight(shape=(), initializer="ones")

    @property
    def kernel(self):
        return tfp.math.psd_kernels.ExponentiatedQuadratic(
            amplitude=ops.softplus(self.amplitude)
        )


@originals
def test_same_gaussian_process_as_the_original():
    import tf_keras

    class Original(tf_keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.amplitude = self.add_weight(initializer="ones", name="a")

        @property
        def kernel(self):
            return tfp.math.psd_kernels.ExponentiatedQuadratic(
                amplitude=ops.softplus(self.amplitude)
            )

    x = X[:, :1]
    arguments = {"num_inducing_points": 4, "event_shape": (2,)}
    original = tfp_originals().VariationalGaussianProcess(
        kernel_provider=Original(), **arguments
    )
    ours = layers.VariationalGaussianProcess(kernel_provider=RBF(), **arguments)
    original(x), ours(x)
    weights = dict(
        zip(
            [w.name.split("/")[-1].split(":")[0] for w in original.weights],
            original.get_weights(),
            strict=True,
        )
    )
    weights["inducing_index_points"] = RNG.normal(size=(2, 4, 1))
    weights["variational_inducing_observations_loc"] = RNG.normal(size=(2, 4))
    for weight in original.weights:
        weight.assign(weights[weight.name.split("/")[-1].split(":")[0]])
    for weight in ours.weights[:-1]:
        weight.assign(weights[weight.path.split("/")[-1]])
    assert len(ours.weights) == len(original.weights)
    found, expected = ours(x), original(x)
    np.testing.assert_allclose(
        numpy(found.mean()), numpy(expected.mean()), rtol=1e-4, atol=1e-5
    )
    y = np.tile(Y, 2)
    np.testing.assert_allclose(
        float(found.variational_loss(y, kl_weight=0.5)),
        float(numpy(expected.variational_loss(y, kl_weight=0.5)).sum()),
        rtol=1e-4,
    )
