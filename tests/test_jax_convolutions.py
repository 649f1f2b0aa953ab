"""Convolutions in another form are the same convolutions."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from support import BACKEND, numpy

from tfp_vae import VAE, layers

if BACKEND != "jax":
    pytest.skip("written for JAX", allow_module_level=True)

import jax
from jax import lax
from jax import numpy as jnp

from tfp_vae.training import jax_convolutions, jax_loop
from tfp_vae.training.jax_convolutions import with_fast_convolutions

TURNED = "name=_turned"


def gradients_of(convolve):
    """The gradients of a linear function with whole, uneven weights."""

    def total(x, kernel):
        y = convolve(x, kernel)
        weights = jnp.arange(y.size, dtype="float32").reshape(y.shape) % 7 - 3
        return jnp.sum(weights * y)

    return jax.grad(total, (0, 1))


def assert_same(function, args):
    # Sums of whole numbers, all below 2**24: exact in any order.
    expected = function(*args)
    for fast in (function, jax.jit(function)):
        found = with_fast_convolutions(fast)(*args)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def operands(batch, size, width, kernel, features, dims):
    def whole(*shape):
        array = jnp.arange(np.prod(shape), dtype="float32")
        return (5 * array % 11 - 5).reshape(shape)

    return (
        whole(batch, *(size,) * dims, width),
        whole(*(kernel,) * dims, width, features),
    )


def is_turned(function, *args):
    return TURNED in str(
        jax.make_jaxpr(with_fast_convolutions(function))(*args)
    )


NUMBERS = {
    1: ("NHC", "HIO", "NHC"),
    2: ("NHWC", "HWIO", "NHWC"),
    3: ("NDHWC", "DHWIO", "NDHWC"),
}


@given(st.data())
def test_the_gradient_is_the_same(data):
    integers = functools.partial(st.integers, 1)
    dims = data.draw(integers(3))
    size, kernel, stride = (data.draw(integers(n)) for n in (6, 4, 3))
    batch, width, features = (data.draw(integers(4)) for _ in range(3))
    transposed = data.draw(st.booleans())
    padding = data.draw(st.sampled_from(["SAME", "VALID"]))
    if size < kernel:
        padding = "SAME"  # VALID has no output
    dilation = data.draw(integers(2)) if padding == "SAME" else 1
    options = {
        "padding": padding,
        "rhs_dilation": (dilation,) * dims,
        "dimension_numbers": NUMBERS[dims],
    }
    if transposed:
        groups = 1
        convolve = functools.partial(
            lax.conv_transpose, strides=(stride,) * dims, **options
        )
    else:
        groups = data.draw(integers(2))
        convolve = functools.partial(
            lax.conv_general_dilated,
            window_strides=(stride,) * dims,
            feature_group_count=groups,
            **options,
        )
    x, w = operands(
        batch, size, groups * width, kernel, groups * features, dims
    )
    args = x, w[..., :width, :]
    assert_same(gradients_of(convolve), args)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("strides", "kernel"), [(2, 3), (3, 3), (2, 4)])
def test_of_a_strided_transposed_convolution_it_is_turned(
    strides, kernel, padding
):
    convolve = functools.partial(
        ops.conv_transpose, strides=strides, padding=padding
    )
    x, w = operands(2, 6, 3, kernel, 4, dims=2)
    w = jnp.swapaxes(w, -1, -2)  # as Keras has them
    gradient = gradients_of(convolve)
    assert is_turned(gradient, x, w)
    assert not is_turned(convolve, x, w)
    assert_same(gradient, (x, w))


def test_without_a_stride_it_is_turned_for_few_features_alone():
    convolve = functools.partial(ops.conv, strides=1, padding="same")
    gradient = gradients_of(convolve)
    assert is_turned(gradient, *operands(2, 6, 8, 3, 1, dims=2))
    assert not is_turned(gradient, *operands(2, 6, 1, 3, 8, dims=2))
    # It would need additional padding.
    convolve = functools.partial(ops.conv, strides=1, padding="valid")
    gradient = gradients_of(convolve)
    assert not is_turned(gradient, *operands(2, 6, 8, 3, 1, dims=2))


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize(
    "kind", [keras.layers.Conv2D, keras.layers.Conv2DTranspose]
)
def test_channels_are_last(kind, data_format):
    layer = kind(3, 2, data_format=data_format)
    x = jnp.ones((2, 4, 4, 4))
    layer.build(x.shape)

    def convolve(x, kernel):
        return layer.stateless_call([kernel, layer.bias.value], [], x)[0]

    fast = with_fast_convolutions(gradients_of(convolve))
    text = str(jax.make_jaxpr(fast)(x, layer.kernel.value))
    for spec in (
        "conv_general_dilated[",
        "lhs_spec=(0, 3, 1, 2)",
        "rhs_spec=(3, 2, 0, 1)",
        "out_spec=(0, 3, 1, 2)",
    ):
        assert text.count(spec) == 3, spec  # forwards and two gradients


def in_a_scan(gradient):
    def all_of(xs, kernel):
        return lax.scan(
            lambda total, x: (total + gradient(x, kernel)[1], None),
            jnp.zeros_like(kernel),
            xs,
        )[0]

    return lambda x, kernel: all_of(jnp.stack([x, x]), kernel)


def in_a_branch(gradient):
    return lambda x, kernel: lax.cond(
        x[0, 0, 0, 0] < 0, gradient, lambda *args: args, x, kernel
    )


@pytest.mark.versions
@pytest.mark.parametrize("within", [jax.jit, in_a_scan, in_a_branch])
def test_it_is_found_within_other_operations(within):
    convolve = functools.partial(
        lax.conv_transpose, strides=(2, 2), padding="SAME"
    )
    function = within(gradients_of(convolve))
    args = operands(2, 4, 2, 3, 3, dims=2)
    assert is_turned(function, *args)
    assert_same(function, args)


X = np.random.default_rng(0).normal(size=(12, 4, 4, 1)).astype("float32")


def convolutional(cls=VAE):
    keras.utils.set_random_seed(3)
    convolution = functools.partial(
        keras.layers.Conv2DTranspose, kernel_size=3, padding="same"
    )
    vae = cls(
        keras.Sequential(
            [
                keras.Input((4, 4, 1)),
                keras.layers.Conv2D(2, 3),
                keras.layers.Flatten(),
                keras.layers.Dense(4),
                layers.MultivariateNormalDiag(2),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(8),
                keras.layers.Reshape((2, 2, 2)),
                convolution(3, strides=2, activation="tanh"),
                convolution(2),
                layers.IndependentNormal((4, 4, 1)),
            ]
        ),
        seed=1,
    )
    vae.compile(keras.optimizers.SGD(0.01), steps_per_execution=3)
    return vae


class WithItsOwnStep(VAE):
    """Keras' step, and nothing of ours."""

    def train_step(self, *args):
        return keras.Model.train_step(self, *args)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4]


@pytest.mark.versions
@pytest.mark.parametrize(
    "train",
    [
        lambda vae: vae.fit(X, epochs=2, batch_size=4, verbose=0),
        lambda vae: vae.fit(Batches(), epochs=2, verbose=0),
        lambda vae: [vae.train_on_batch(X) for _ in range(3)],
    ],
    ids=["arrays", "a pipeline", "train_on_batch"],
)
def test_training_takes_the_same_way(train, monkeypatch):
    rewritten = spied_on(monkeypatch)
    found = convolutional()
    train(found)
    assert jax.default_backend() != "cpu" or (rewritten and all(rewritten))
    monkeypatch.setattr(jax_loop, "with_fast_convolutions", lambda step: step)
    expected = convolutional()
    train(expected)
    for a, b in zip(found.weights, expected.weights, strict=True):
        # A few steps; each rounds sums of some hundred terms.
        np.testing.assert_allclose(numpy(a), numpy(b), rtol=1e-4, atol=1e-5)


@pytest.mark.versions
@pytest.mark.parametrize("pipeline", [False, True])
def test_a_step_of_a_users_own_is_rewritten(pipeline, monkeypatch):
    rewritten = spied_on(monkeypatch)
    vae = convolutional(WithItsOwnStep)
    data = {"x": Batches()} if pipeline else {"x": X, "batch_size": 4}
    vae.fit(**data, epochs=2, verbose=0)
    assert any(rewritten) == (jax.default_backend() == "cpu")


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="rewritten for a CPU alone"
)
@pytest.mark.parametrize("error", [RecursionError, AttributeError])
def test_what_cannot_be_rewritten_runs_as_it_is(error, monkeypatch):
    def refuse(jaxpr):
        raise error("unknown")

    def trained():
        vae = convolutional()
        vae.fit(X, epochs=2, batch_size=4, verbose=0)
        vae.train_on_batch(X)
        return [numpy(w) for w in vae.weights]

    with monkeypatch.context() as patch:
        patch.setattr(jax_loop, "with_fast_convolutions", lambda step: step)
        expected = trained()
    jax_convolutions._warn_once.cache_clear()
    monkeypatch.setattr(jax_convolutions, "_rewritten", refuse)
    with pytest.warns(
        RuntimeWarning, match=rf"failed with {error.__name__}: unknown\. Train"
    ) as warned:
        found = trained()
    # It also records the warnings that the suite ignores.
    assert [w.category for w in warned].count(RuntimeWarning) == 1
    for a, b in zip(found, expected, strict=True):
        # The same operations, which XLA may fuse in another way.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_an_error_of_the_function_itself_is_no_warning():
    def fails(x):
        raise ValueError("of the user's own")

    with pytest.raises(ValueError, match="of the user's own"):
        with_fast_convolutions(fails)(1.0)


def spied_on(monkeypatch):
    """For each step that training traces, whether it is rewritten."""
    seen = []

    def spied(step):
        def run(*args):
            seen.append(is_turned(step, *args))
            return with_fast_convolutions(step)(*args)

        return run

    monkeypatch.setattr(jax_loop, "with_fast_convolutions", spied)
    return seen
