"""Flows: densities, inverses, masks, gradients, saving, training."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

import tfp_vae
from tests.support import (
    BACKEND,
    fast,
    gradients,
    jacobians,
    numpy,
    sample,
)
from tfp_vae.layers import (
    AffineCoupling,
    AutoregressiveNetwork,
    AutoregressiveTransform,
    FlowTransform,
    Head,
    IndependentBernoulli,
    IndependentNormal,
    InverseAutoregressive,
    InvertibleLinear,
    MaskedAutoregressive,
    MultivariateNormalDiag,
    NormalizingFlow,
    Permutation,
    SplineCoupling,
)
from tfp_vae.layers.flows import autoregressive
from tfp_vae.layers.flows.masks import made_masks
from tfp_vae.layers.flows.spline import rational_quadratic_spline
from tfp_vae.losses import NegativeLogLikelihood
from tfp_vae.substrate import jit, tfb, tfd, tfp_seed

SMALL = {"hidden_units": (8, 8)}
CASES = {
    "affine": lambda: [
        AffineCoupling(**SMALL),
        AffineCoupling(reverse=True, **SMALL),
    ],
    "spline": lambda: [
        SplineCoupling(num_bins=4, **SMALL),
        SplineCoupling(num_bins=4, reverse=True, **SMALL),
    ],
    "masked": lambda: [
        MaskedAutoregressive(**SMALL),
        MaskedAutoregressive(input_order="right-to-left", **SMALL),
    ],
    "inverse": lambda: [
        InverseAutoregressive(activation="tanh", **SMALL),
        Permutation(),
        InverseAutoregressive(**SMALL),
    ],
    "linear": lambda: [InvertibleLinear(), Permutation("random", seed=3)],
}


def scattered(layer):
    """Gives weights values, since zeros hide mistakes."""
    noise = np.random.RandomState(1)
    for weight in layer.trainable_variables:
        weight.assign(0.4 * noise.standard_normal(weight.shape))
    return layer


def flow(name, event_shape, **kwargs):
    return scattered(NormalizingFlow(event_shape, CASES[name](), **kwargs))


def standard(event_ndims, shape):
    return tfd.Independent(
        tfd.Normal(np.zeros(shape, "float32"), 1.0), event_ndims
    )


def points(n, *shape, scale=1.5):
    noise = np.random.RandomState(2).standard_normal((n, *shape))
    return (scale * noise).astype("float32")


CONTEXT = points(5, 2)


@pytest.mark.parametrize("name", CASES)
def test_is_the_identity_at_first(name):
    layer = NormalizingFlow(4, CASES[name](), context_size=2)
    x = points(5, 4)
    density = standard(1, (5, 4)).log_prob(x)
    # A permutation does not change the density.
    np.testing.assert_allclose(
        layer(CONTEXT).log_prob(x), density, rtol=1e-5, atol=1e-5
    )


@pytest.fixture(scope="module", params=CASES)
def compiled(request):
    """A flow in both directions, with its log-determinants, compiled once."""
    layer = flow(request.param, 3, context_size=2)

    def there_and_back(x):
        bijector = layer(CONTEXT[:1]).bijector
        y = bijector.forward(x)
        copy = ops.stop_gradient(y)
        return (
            y,
            bijector.inverse(copy),
            bijector.forward_log_det_jacobian(x, 1),
            bijector.inverse_log_det_jacobian(copy, 1),
        )

    return jit(there_and_back)


@given(x=hnp.arrays(np.float32, (2, 3), elements=st.floats(-4, 4, width=32)))
def test_inverse_of_forward_is_the_identity(compiled, x):
    _, back, log_det, inverse_log_det = map(numpy, compiled(x))
    # float32 has 7 digits; the slopes of these maps, up to about 30 in both
    # directions, leave some 4.
    np.testing.assert_allclose(back, x, atol=5e-4)
    np.testing.assert_allclose(log_det, -inverse_log_det, atol=5e-3)


def test_log_determinants_are_those_of_the_jacobian(compiled):
    x = points(2, 3)
    jacobian = jacobians(
        lambda x: ops.reshape(
            compiled(ops.reshape(x, (-1, 3)))[0], ops.shape(x)
        ),
        x,
    )
    exact = np.linalg.slogdet(jacobian.astype("float64"))[1]
    # Of the order of 1, from float32 Jacobians with entries up to 30.
    np.testing.assert_allclose(compiled(x)[2], exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_density_integrates_to_one_and_draws_follow_it(name):
    distribution = flow(name, 2)(None)
    grid = np.linspace(-16, 16, 641, dtype="float32")
    z = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(numpy(fast(distribution.log_prob)(z)).astype("float64"))
    mass = density * (grid[1] - grid[0]) ** 2
    # The rule is exact for smooth functions; splines have kinks in the slope.
    assert abs(mass.sum() - 1) < 2e-3
    draws = sample(distribution, 4000)
    for statistic in (
        lambda z: z[..., 0],
        lambda z: z[..., 1] ** 2,
        lambda z: np.cos(z[..., 0] * z[..., 1]),
    ):
        exact = (mass * statistic(z.astype("float64"))).sum() / mass.sum()
        found = statistic(draws.astype("float64"))
        error = found.std() / np.sqrt(len(found))
        assert abs(found.mean() - exact) < 5 * error + 2e-3


@pytest.mark.parametrize("name", CASES)
def test_a_draw_is_known_and_its_copy_inverted(name):
    layer = flow(name, 4, context_size=2)

    @jit
    def densities(context):
        q = layer(context)
        z = q.sample(3, seed=tfp_seed(0))
        # A plain TransformedDistribution of the same parts, as an oracle.
        plain = tfd.TransformedDistribution(q.distribution, q.bijector)
        both = q.experimental_sample_and_log_prob(3, seed=tfp_seed(0))
        rows = ops.reshape(z[0, :1], (1, 1, 4))
        return (
            q.log_prob(z),
            both[1],
            q.log_prob(ops.stop_gradient(z)),
            plain.log_prob(ops.stop_gradient(z)),
            # One row against the whole batch, by broadcasting and by copies.
            q.log_prob(rows)[0],
            q.log_prob(ops.tile(rows[0], (5, 1))),
        )

    drawn, both, copied, plain, row, rows = map(numpy, densities(CONTEXT))
    assert drawn.shape == (3, 5)
    np.testing.assert_allclose(both, drawn, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(copied, drawn, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(plain, copied, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(row, rows, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
@pytest.mark.parametrize("hidden", [(), (5,), (16, 16)])
def test_masks_let_through_what_comes_before_and_nothing_else(order, hidden):
    product = np.eye(4)
    for mask in made_masks(order, hidden, 2):
        product = product @ mask
    place = np.argsort(order)
    before = place[:, None] < place[None, :]
    np.testing.assert_array_equal(product > 0, np.tile(before, 2))


@pytest.mark.parametrize("order", ["left-to-right", "right-to-left"])
@pytest.mark.parametrize(
    "layer_class", [MaskedAutoregressive, InverseAutoregressive]
)
def test_jacobian_is_triangular(layer_class, order):
    # A rectifier may be inactive at every point.
    layer = layer_class((16,), activation="tanh", input_order=order)
    layer.build((4,), (2,))
    scattered(layer)

    def forward(x, context=CONTEXT[:1]):
        y = layer(context).forward(ops.reshape(x, (-1, 4)))
        return ops.reshape(y, ops.shape(x))

    jacobian = jacobians(forward, points(3, 4))
    if order == "right-to-left":
        jacobian = jacobian[:, ::-1, ::-1]
    assert (np.triu(jacobian, 1) == 0).all()
    rows, columns = np.tril_indices(4)
    assert (jacobian[:, rows, columns] != 0).all()
    # Every element, including the first one, depends on the context.
    moved = numpy(forward(points(1, 4), CONTEXT[1:2]))
    assert (moved != numpy(forward(points(1, 4)))).all()


# A warning of TFP on JAX.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype .*int64")
def test_spline_is_that_of_tfp():
    raw = points(7, 3 * 6 - 1)
    x = np.linspace(-3.9, 3.9, 7, dtype="float32")
    value, log_slope = rational_quadratic_spline(x, raw, 4.0)
    # The floors of bins and slopes, as its docstring says.
    shares = [
        1e-3 + (1 - 6e-3) * numpy(ops.softmax(raw[:, i : i + 6])).astype("f8")
        for i in (0, 6)
    ]
    slopes = 1e-3 + np.log1p(np.exp(raw[:, 12:] + np.log(np.expm1(0.999))))
    exact = tfb.RationalQuadraticSpline(
        *((8 * share).astype("float32") for share in shares),
        slopes.astype("float32"),
        range_min=-4.0,
    )
    # Both are float32, of values up to 4.
    np.testing.assert_allclose(value, exact.forward(x), atol=1e-5)
    np.testing.assert_allclose(
        log_slope, exact.forward_log_det_jacobian(x, 0), atol=1e-4
    )
    back, _ = rational_quadratic_spline(value, raw, 4.0, inverse=True)
    np.testing.assert_allclose(back, x, atol=1e-4)
    outside, zero = rational_quadratic_spline(2 * x[[0, -1]], raw[:2], 4.0)
    np.testing.assert_array_equal(outside, 2 * x[[0, -1]])
    np.testing.assert_array_equal(zero, 0)


def test_masked_autoregressive_is_that_of_tfp():
    layer = MaskedAutoregressive(**SMALL)
    layer.build((4,))
    bijector = scattered(layer)()
    exact = tfb.MaskedAutoregressiveFlow(bijector._shift_and_log_scale)
    x = points(6, 4)
    np.testing.assert_allclose(
        bijector.forward(x), exact.forward(x), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        bijector.forward_log_det_jacobian(x, 1),
        exact.forward_log_det_jacobian(x, 1),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("conditional", [False, True])
def test_autoregressive_network_sees_what_comes_before(conditional):
    more = {"conditional": True, "conditional_event_shape": 2}
    layer = AutoregressiveNetwork(
        3,
        hidden_units=[12],
        input_order=[2, 3, 1],
        activation="tanh",
        **more if conditional else {},
    )
    layer.build((None, 3))
    scattered(layer)
    given = {"conditional_input": CONTEXT[:1]} if conditional else {}

    def first(x):
        y = layer(ops.reshape(x, (-1, 3)), **given)
        return ops.reshape(y, (*ops.shape(x), 3))[..., 0]

    depends = jacobians(first, points(2, 3)) != 0
    # Input 2 is the first, input 0 the second, input 1 the last.
    exact = [[False, False, True], [True, False, True], [False] * 3]
    np.testing.assert_array_equal(depends, [exact] * 2)
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert [w.shape for w in again.weights] == [w.shape for w in layer.weights]


def test_autoregressive_transform_as_in_tfp_layers(tmp_path):
    made = AutoregressiveNetwork(2, hidden_units=[8], activation="relu")
    model = tfp_vae.Sequential(
        [
            keras.Input((4,)),
            MultivariateNormalDiag(2),
            AutoregressiveTransform(made),
        ]
    )
    model.compile("adam", loss=NegativeLogLikelihood())
    inputs = points(16, 4)
    model.fit(inputs, points(16, 2), verbose=0)
    x = points(16, 2)
    m, s = np.moveaxis(numpy(made(x)), -1, 0)
    base = MultivariateNormalDiag(2)(inputs)
    exact = numpy(base.log_prob((x - m) * np.exp(-s))) - s.sum(-1)
    found = numpy(model(inputs).log_prob(x))
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "made.keras")
    again = keras.saving.load_model(tmp_path / "made.keras")
    np.testing.assert_allclose(again(inputs).log_prob(x), found, rtol=1e-5)
    with pytest.raises(ValueError, match="params=3"):
        AutoregressiveTransform(AutoregressiveNetwork(3))


def operations(size):
    """How many operations the trace of the sequential direction has."""
    layer = MaskedAutoregressive(hidden_units=(4,))
    layer.build((size,))
    x = points(2, size)
    if BACKEND == "jax":
        import jax

        return len(jax.make_jaxpr(lambda x: layer().forward(x))(x).eqns)
    import tensorflow as tf

    function = tf.function(lambda x: layer().forward(x))
    return len(function.get_concrete_function(x).graph.get_operations())


def test_the_sequential_direction_is_one_loop():
    assert operations(3) == operations(12)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_finite_everywhere(name):
    distribution = flow(name, 3)(None)
    x = np.array([[0, 0, 0], [5, -5, 5], [4.9999, 5.0001, 0], [1e3, -1e3, 0]])
    (found,) = gradients(distribution.log_prob, x.astype("float32"))
    assert np.isfinite(found).all()


def test_by_itself_it_is_a_density_whose_weights_all_train():
    layer = scattered(
        NormalizingFlow(3, [t for make in CASES.values() for t in make()])
    )
    model = tfp_vae.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(1e-3), loss=NegativeLogLikelihood())
    before = [numpy(w) for w in model.trainable_variables]
    assert len(before) == 8 * 6 + 2
    x = points(32, 3)
    exact = -numpy(fast(lambda x: layer(None).log_prob(x))(x)).mean()
    history = model.fit(x, x, batch_size=32, verbose=0).history
    np.testing.assert_allclose(history["loss"], exact, rtol=1e-4)
    # As in tfp.layers, there may be no input.
    assert layer(np.zeros((5, 0), "float32")).batch_shape == (5,)
    for weight, value in zip(model.trainable_variables, before, strict=True):
        assert (numpy(weight) != value).any(), weight.path


@pytest.mark.parametrize("name", ["affine", "masked"])
def test_events_that_are_no_vectors(name):
    layer = flow(name, (2, 3), context_size=2)
    distribution = layer(CONTEXT)
    vectors = flow(name, 6, context_size=2)(CONTEXT)
    x = points(5, 2, 3)
    assert sample(distribution, 2).shape == (2, 5, 2, 3)
    np.testing.assert_allclose(
        distribution.log_prob(x), vectors.log_prob(x.reshape(5, 6)), rtol=1e-4
    )


def test_as_a_likelihood_it_takes_the_parameters_of_its_base():
    layer = Head(NormalizingFlow(IndependentNormal(3), CASES["affine"]()))
    model = tfp_vae.Sequential([keras.Input((2,)), layer])
    model.compile("adam", loss=NegativeLogLikelihood())
    model.fit(CONTEXT, points(5, 3), verbose=0)
    assert model.predict(CONTEXT, verbose=0).shape == (5, 3)


def test_mixed_precision_leaves_it_float32():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        head = Head(
            NormalizingFlow(
                MultivariateNormalDiag(3), CASES["inverse"](), context_size=2
            )
        )
        distribution = head(points(4, 6))
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(distribution.dtype) == "float32"
    assert {w.dtype for w in head.distribution.weights} == {"float32"}
    assert np.isfinite(numpy(distribution.log_prob(points(4, 3)))).all()


def small_vae(posterior, prior=None, **kwargs):
    encoder = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, "relu"), Head(posterior)]
    )
    decoder = keras.Sequential([keras.Input((3,)), Head(IndependentNormal(6))])
    vae = tfp_vae.VAE(encoder, decoder, prior=prior, seed=0, **kwargs)
    vae.compile("adam")
    return vae


def test_in_a_vae_nothing_is_inverted_and_all_is_saved(tmp_path, monkeypatch):
    posterior = NormalizingFlow(
        MultivariateNormalDiag(3), CASES["inverse"](), context_size=4
    )
    prior = NormalizingFlow(
        3, [t for n in ("affine", "spline", "linear") for t in CASES[n]()]
    )
    vae = small_vae(posterior, prior)
    loops = []
    in_turn = autoregressive._Autoregressive._in_turn
    monkeypatch.setattr(
        autoregressive._Autoregressive,
        "_in_turn",
        lambda *args: loops.append(1) or in_turn(*args),
    )
    x = points(32, 6)
    vae.fit(x, batch_size=16, epochs=2, verbose=0)
    found = vae.marginal_log_likelihood(x[:4], num_samples=20, seed=0)
    assert not loops
    vae.save(tmp_path / "flows.keras")
    again = keras.saving.load_model(tmp_path / "flows.keras", safe_mode=True)
    first = vae.predict(x, verbose=0)
    for name, values in again.predict(x, verbose=0).items():
        np.testing.assert_allclose(values, first[name], rtol=1e-5, atol=1e-5)
    again = again.marginal_log_likelihood(x[:4], num_samples=20, seed=0)
    np.testing.assert_allclose(found[0], again[0], rtol=1e-5)
    # Values that were not drawn are inverted.
    vae.encode(x[:4]).log_prob(points(4, 3))
    assert loops


# One for each base of bijectors; the permutation is part of the second.
@pytest.mark.parametrize("name", ["affine", "inverse"])
def test_slices_keep_their_contexts(name):
    q = flow(name, 3, context_size=2)(CONTEXT)
    x = points(5, 3)
    assert q.bijector.experimental_batch_shape() == (5,)
    assert q[1:4].batch_shape == (3,)
    part = q[1]
    assert sample(part, ()).shape == (3,)
    np.testing.assert_allclose(
        part.log_prob(x[1]), q.log_prob(x)[1], rtol=1e-4, atol=1e-4
    )


def reused(event_size, context_size):
    transforms = [Permutation()]
    NormalizingFlow(3, transforms)
    NormalizingFlow(3, transforms)  # allowed with the same sizes
    NormalizingFlow(event_size, transforms, context_size)


class Banana(keras.layers.Layer):
    """A decoder without weights: x = z_2 + z_1**2 + noise."""

    def call(self, z):
        loc = z[..., 1:] + z[..., :1] ** 2
        return tfd.Independent(tfd.Normal(loc, 0.3), 1)


def banana_gap(posterior, log_evidence):
    encoder = keras.Sequential([keras.Input((1,)), Head(posterior)])
    decoder = Banana()
    decoder.built = True
    vae = tfp_vae.VAE(encoder, decoder, seed=0)
    vae.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.02, 1500)
        )
    )
    x = np.zeros((4800, 1), "float32")
    vae.fit(x, batch_size=32, epochs=10, verbose=0)
    elbo = vae.evaluate(
        np.zeros((6400, 1), "float32"), verbose=0, return_dict=True
    )
    return log_evidence + elbo["loss"]


def test_iaf_closes_the_gap_that_a_gaussian_leaves_on_a_banana():
    grid = np.linspace(-8, 8, 1601)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    residual = (b + a**2) / 0.3
    joint = np.exp(-(a**2 + b**2 + residual**2) / 2)
    joint /= 0.3 * (2 * np.pi) ** 1.5
    log_evidence = np.log(joint.sum() * 0.01**2)
    gaussian = banana_gap(MultivariateNormalDiag(2), log_evidence)
    iaf = banana_gap(
        NormalizingFlow(
            MultivariateNormalDiag(2),
            [
                InverseAutoregressive(hidden_units=(32,)),
                Permutation(),
                InverseAutoregressive(hidden_units=(32,)),
            ],
        ),
        log_evidence,
    )
    # 0.01 nats: five standard errors of 6400 draws.
    assert gaussian > 0.1
    assert -0.03 < iaf < 0.2 * gaussian


class Doubled(FlowTransform):
    def make_bijector(self, context):
        return tfb.Scale(2.0)


def test_a_transform_of_ones_own_and_of_tfp():
    layer = NormalizingFlow(2, [AffineCoupling(), Doubled()])
    x = points(4, 2)
    exact = standard(1, (2,)).log_prob(x / 2) - 2 * np.log(2)
    np.testing.assert_allclose(layer(None).log_prob(x), exact, rtol=1e-5)
    z = layer(None).sample(4, seed=tfp_seed(0))
    assert z.shape == (4, 2)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: NormalizingFlow(2, []), ValueError, "one transform"),
        (lambda: reused(5, 0), ValueError, "built for vectors of 3"),
        (lambda: reused(3, 2), ValueError, "a context of 0"),
        (lambda: NormalizingFlow(2, [tfb.Exp()]), TypeError, "Keras layers"),
        (
            lambda: NormalizingFlow(keras.layers.Dense(2), [Permutation()]),
            TypeError,
            "distribution layer",
        ),
        (
            lambda: NormalizingFlow(1, [AffineCoupling()]),
            ValueError,
            "at least 2",
        ),
        (
            lambda: NormalizingFlow(3, [Permutation([1, 0])]),
            ValueError,
            "that many",
        ),
        (lambda: Permutation([0, 0]), ValueError, "in any order"),
        (lambda: AffineCoupling()(), ValueError, "put it into"),
        (lambda: SplineCoupling(num_bins=1), ValueError, "2 to 500"),
        (lambda: SplineCoupling(bound=-1.0), ValueError, "positive"),
        (lambda: AffineCoupling(hidden_units=(0,)), ValueError, "int >= 1"),
        (
            lambda: MaskedAutoregressive(input_order="random"),
            ValueError,
            "left-to-right",
        ),
        (
            lambda: NormalizingFlow(2, [Permutation()])(points(3, 4)),
            ValueError,
            "context_size",
        ),
        (
            lambda: NormalizingFlow(2, [Permutation()], context_size=3)(None),
            ValueError,
            "context=h",
        ),
        (
            lambda: NormalizingFlow(2, [Permutation()], context_size=3)(
                points(3, 4)
            ),
            ValueError,
            "params_size=3",
        ),
        (
            lambda: NormalizingFlow(IndependentBernoulli(2), [Permutation()])(
                points(3, 2)
            ),
            ValueError,
            "continuous",
        ),
    ],
)
def test_mistakes_are_told(make, error, words):
    with pytest.raises(error, match=words):
        make()
