"""KL divergences of Huber, Normal and Laplace agree with quadrature."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracles import huber_energy, huber_log_z
from support import BACKEND, float64, gradients, numpy

import tfp_vae.distributions.huber_kl  # noqa: F401
from tfp_vae.distributions import Huber
from tfp_vae.substrate import jit, tfd

DELTAS = [1e-4, 0.03, 1.0, 1.345, 6.0, 1e4, np.inf]
# Relative to the value, and absolute below a tenth: there the divergence is the
# difference of numbers of order 1, and float32 keeps 7 digits of these.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}
FLOAT64 = {"rtol": 1e-12, "atol": 1e-13}

_NODE, _WEIGHT = np.polynomial.legendre.leggauss(40)


def log_normalizer(scale, delta):
    return np.log(scale) + huber_log_z(delta)


def exact_kl(loc, scale, delta, b_loc, b_scale, b_delta):
    """By Gauss-Legendre in float64, on panels cut at all four thresholds."""
    parameters = (loc, scale, delta, b_loc, b_scale, b_delta)
    loc, scale, delta, b_loc, b_scale, b_delta = map(float, parameters)
    centre = np.linspace(0, min(delta, 9) * scale, 12)
    decay = scale / min(delta, 1e3)
    tail = [0.05, 0.2, 0.5, 1, 2, 3, 5, 8, 12, 17, 23, 30, 40]
    side = np.concatenate([centre, centre[-1] + decay * np.array(tail)])
    shift, half = b_loc - loc, min(b_delta, 1e99) * b_scale
    kinks = shift + half * np.array([-1, -0.5, 0, 0.5, 1])
    cuts = np.append(np.append(-side, side), kinks)
    cuts = np.unique(cuts[np.abs(cuts) <= side[-1]])
    middle, half = (cuts[1:] + cuts[:-1]) / 2, (cuts[1:] - cuts[:-1]) / 2
    y = middle[:, None] + half[:, None] * _NODE
    own, other = (
        huber_energy(y / scale, delta),
        huber_energy((y - shift) / b_scale, b_delta),
    )
    log_z = log_normalizer(scale, delta)
    mass = half[:, None] * _WEIGHT * np.exp(-own - log_z)
    assert mass.sum() == pytest.approx(1.0, abs=1e-12)
    return (
        (mass * (other - own)).sum() + log_normalizer(b_scale, b_delta) - log_z
    )


def exact_kls(parameters):
    return np.array(
        list(itertools.starmap(exact_kl, zip(*parameters, strict=True)))
    )


def kl(loc, scale, delta, b_loc, b_scale, b_delta):
    return tfd.kl_divergence(
        Huber(loc, scale, delta), Huber(b_loc, b_scale, b_delta)
    )


compiled_kl = jit(kl)


def grid(distances, ratios, deltas=DELTAS):
    """All pairs, at distances and ratios in units of each in turn."""
    rows = []
    for delta, b_delta, distance, ratio in itertools.product(
        deltas, deltas, distances, ratios
    ):
        scale = 0.7 * min(delta, 1.0)
        b_scale = 0.7 * ratio * min(b_delta, 1.0)
        b_loc = 0.25 + distance * 0.7 * max(ratio, 1.0)
        rows.append((0.25, scale, delta, b_loc, b_scale, b_delta))
    return np.array(rows).T


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", FLOAT32), ("float64", FLOAT64)]
)
def test_agrees_with_quadrature(dtype, tolerance):
    distances = [0.0, 1e-3, -0.3, 1.0, 2.5, -30.0, 1e6]
    parameters = grid(distances, [1e-3, 0.3, 1.0, 2.0, 300.0]).astype(dtype)
    with float64():
        found = numpy(kl(*parameters))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, exact_kls(parameters), **tolerance)


@pytest.mark.parametrize(
    ("family", "limit"), [(tfd.Normal, np.inf), (tfd.Laplace, 1e-6)]
)
def test_normal_and_laplace_in_both_orders(family, limit):
    """A Laplace is a Huber whose delta enters only by its square."""
    rows = itertools.product([0.0, 0.2, -3, 1e6], DELTAS, [0.02, 0.8, 5.0])
    loc, delta, width = np.array(list(rows), np.float32).T
    own = (loc, np.full_like(loc, 0.8), delta)
    zero = np.zeros_like(loc)
    other = (zero, width * min(limit, 1.0), np.full_like(loc, limit))
    huber, limiting = Huber(*own), family(zero, width)
    np.testing.assert_allclose(
        numpy(tfd.kl_divergence(huber, limiting)),
        exact_kls((*own, *other)),
        **FLOAT32,
    )
    np.testing.assert_allclose(
        numpy(tfd.kl_divergence(limiting, huber)),
        exact_kls((*other, *own)),
        **FLOAT32,
    )


def test_limits_are_what_tfp_knows():
    loc = np.array([0.0, 0.1, -2.0, 40.0], np.float32)
    for family, delta in ((tfd.Normal, np.inf), (tfd.Laplace, 1e-6)):
        scale = np.array([0.3, 1.0, 2.0, 7.0], np.float32)
        factor = np.float32(min(delta, 1.0))
        theirs = numpy(tfd.kl_divergence(family(loc, 1.0), family(0.0, scale)))
        for ours in (
            kl(loc, factor, delta, 0.0, factor * scale, delta),
            tfd.kl_divergence(
                family(loc, 1.0), Huber(0.0, factor * scale, delta)
            ),
            tfd.kl_divergence(Huber(loc, factor, delta), family(0.0, scale)),
        ):
            np.testing.assert_allclose(numpy(ours), theirs, **FLOAT32)


@given(
    delta=st.floats(1e-4, 1e4),
    scale=st.floats(1e-3, 1e3),
    step=st.floats(1e-7, 1e-2),
)
def test_nearly_equal_is_nearly_zero_and_never_below(delta, scale, step):
    reach = scale / min(delta, 1.0)
    own = (0.0, scale, delta)
    rows = [
        (*own, step * i * reach, scale * (1 + step * j), delta * (1 + step * k))
        for i, j, k in itertools.product((-1, 0, 1), repeat=3)
    ]
    found = numpy(compiled_kl(*np.array(rows, np.float32).T))
    assert found.min() >= 0.0
    # A quadratic form in the steps, whose coefficients are below 1 each.
    assert found.max() <= 9 * step**2 + 1e-6


@given(
    delta=st.floats(1e-3, 30.0) | st.just(np.inf),
    b_delta=st.floats(1e-3, 30.0) | st.just(np.inf),
    log_ratio=st.floats(-7, 7),
    distance=st.floats(-20, 20),
)
def test_agrees_with_quadrature_anywhere(delta, b_delta, log_ratio, distance):
    scale = min(delta, 1.0)
    b_scale = min(b_delta, 1.0) * np.exp(log_ratio)
    parameters = (0.0, scale, delta, distance, b_scale, b_delta)
    single = [np.float32(p) for p in parameters]
    np.testing.assert_allclose(
        numpy(compiled_kl(*single)), exact_kl(*single), **FLOAT32
    )
    with float64():
        double = [np.float64(p) for p in parameters]
        np.testing.assert_allclose(
            numpy(compiled_kl(*double)), exact_kl(*double), **FLOAT64
        )


def test_gradients_equal_finite_differences():
    """The divergence is once continuously differentiable, also at kinks."""
    random = np.random.default_rng(0)
    size = grid([0.0] * 7, [1.0] * 5).shape[1]
    delta, b_delta = 10 ** random.uniform(-1.5, 1, (2, size))
    scale, b_scale = 10 ** random.uniform(-1, 1, (2, size))
    loc, b_loc = random.normal(size=(2, size)) * 3
    # Where pieces meet: thresholds of 1, equal densities, equal locations, and
    # edges on edges.
    delta[:60], b_delta[30:90] = 1.0, 1.0
    loc[20:50] = b_loc[20:50]
    scale[40:80] = b_scale[40:80] = 1.0
    b_loc[60:70] = loc[60:70] + 1.0
    delta[70:80], b_loc[70:80] = 2.0, loc[70:80] + 1.0
    parameters = [loc, scale, delta, b_loc, b_scale, b_delta]
    with float64():
        found = gradients(kl, *parameters)
        for i, value in enumerate(found):
            h = 1e-6 * np.maximum(np.abs(parameters[i]), 0.01)
            up, down = list(parameters), list(parameters)
            up[i], down[i] = parameters[i] + h, parameters[i] - h
            difference = (numpy(kl(*up)) - numpy(kl(*down))) / (2 * h)
            # Rounding: 1e-15 KL / h; curvature: h f'' at a kink.
            slack = 1e-5 * (1 + np.abs(difference))
            slack += 1e-15 * numpy(kl(*parameters)) / h
            assert (np.abs(value - difference) <= slack).all(), i


def test_single_precision_gradients_are_finite_and_those_of_double():
    distances = [0.0, 1e-7, 0.7, 1.0, -5.0, 1e6, 1e15]
    parameters = grid(distances, [0.01, 0.1, 1.0, 10.0, 100.0])
    parameters = parameters.astype(np.float32)
    single = gradients(kl, *parameters)
    with float64():
        wide = parameters.astype(np.float64)
        double = gradients(kl, *wide)
        size = 1.0 + numpy(kl(*wide))
    _, scale, delta, _, b_scale, b_delta = np.minimum(parameters, 1e30)
    unit = np.minimum(
        scale / np.minimum(delta, 1.0), b_scale / np.minimum(b_delta, 1.0)
    )
    steps = (unit, scale, delta, unit, b_scale, b_delta)
    for a, b, step in zip(single, double, steps, strict=True):
        assert np.isfinite(a).all()
        # Relative to the change over a step as long as the parameter itself.
        error = np.abs(a - b) * step / size
        worst = int(np.argmax(error))
        assert error[worst] < 1e-5, (a[worst], b[worst], parameters[:, worst])


def test_gradients_flow_into_normal_and_laplace():
    def all_pairs(loc, scale, delta, other, width):
        huber = Huber(loc, scale, delta)
        limits = (tfd.Normal(other, width), tfd.Laplace(other, width))
        return sum(
            tfd.kl_divergence(huber, q) + tfd.kl_divergence(q, huber)
            for q in limits
        )

    arguments = np.float32([0.5, 1.0, 1.345, 0.0, 2.0])
    for i, found in enumerate(gradients(all_pairs, *arguments)):
        step = np.float32(0.01) * np.eye(5, dtype=np.float32)[i]
        up, down = (
            all_pairs(*(arguments + step)),
            all_pairs(*(arguments - step)),
        )
        difference = (numpy(up) - numpy(down)) / 0.02
        # Rounding: 1e-6 / 0.02; curvature: 0.01**2 f''' / 6.
        assert found == pytest.approx(difference, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_is_kept(dtype):
    own, other = (0.5, 1.0, 1.345), (0.0, 2.0, 0.5)
    with float64():
        a = Huber(*(ops.cast(p, dtype) for p in own))
        b = Huber(*(ops.cast(p, dtype) for p in other))
        normal = tfd.Normal(*(ops.cast(p, dtype) for p in other[:2]))
        found = tfd.kl_divergence(a, b)
        assert keras.backend.standardize_dtype(found.dtype) == dtype
        mixed = tfd.kl_divergence(normal, a)
        assert keras.backend.standardize_dtype(mixed.dtype) == dtype
        found = float(numpy(ops.cast(found, "float32")))
    # Half precision rounds its parameters, too.
    tolerance = {"float16": 5e-3, "bfloat16": 3e-2}.get(dtype, 1e-5)
    assert found == pytest.approx(exact_kl(*own, *other), rel=tolerance)


def test_batch_shapes_broadcast_and_events_add_up():
    a, b = Huber([[0.0], [1.0]], [1.0, 2.0, 3.0], 1.345), Huber([0.0] * 3)
    found = numpy(tfd.kl_divergence(a, b))
    assert found.shape == (2, 3)
    assert found[1, 2] == pytest.approx(
        exact_kl(1.0, 3.0, 1.345, 0.0, 1.0, 1.0), rel=1e-5
    )
    events = tfd.kl_divergence(tfd.Independent(a, 1), tfd.Independent(b, 1))
    np.testing.assert_allclose(numpy(events), found.sum(-1), 1e-6)


def test_compiled_equals_eager():
    parameters = grid([0.0, 0.5, -40.0], [0.3, 2.0]).astype(np.float32)
    tensors = [ops.convert_to_tensor(p) for p in parameters]
    compiled = [compiled_kl]
    if BACKEND == "tensorflow":
        compiled.append(jit(kl, jit_compile=True))
    for function in compiled:
        np.testing.assert_allclose(
            numpy(function(*tensors)), numpy(kl(*parameters)), **FLOAT32
        )
