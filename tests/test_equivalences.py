"""Densities are Keras' losses plus a constant, in value and in gradient.

Each property holds over event shapes, batch sizes and parameters, on the CPU
and on every GPU that the backend sees. The other side of each equation is a
Keras loss or a formula in float64 NumPy, and its constant comes from SciPy.

Everything is compiled once per shape, so that 10,000 examples take minutes.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import hypothesis
import keras
import numpy as np
import pytest
import scipy.special
from devices import device, where  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracles import huber_log_z
from support import float64, numpy, value_and_gradients

from tfp_vae.distributions import (
    AsymmetricLaplace,
    Barron,
    Bernoulli,
    Huber,
    HyperbolicSecant,
)
from tfp_vae.substrate import jit, tfd


@dataclasses.dataclass(frozen=True)
class Result:
    """One value per example, and the gradients of their sum, in float64."""

    value: np.ndarray
    gradients: list[np.ndarray]


def compiled(function: Callable[..., Any]) -> Callable[..., Result]:
    """`function(value, *parameters)`, differentiated in the parameters."""

    def both(*arguments: Any) -> tuple[Any, Any]:
        return value_and_gradients(function, *arguments)

    fast = jit(both)

    def run(*arguments: np.ndarray) -> Result:
        # Tensors, so that TensorFlow does not compile a number as a constant.
        value, gradients = fast(*map(ops.convert_to_tensor, arguments))
        return Result(
            numpy(value).astype(np.float64),
            [numpy(g).astype(np.float64) for g in gradients],
        )

    return run


def nll(element: tfd.Distribution, y: Any) -> Any:
    """Minus the log density of each example, [batch]."""
    return -tfd.Independent(element, ops.ndim(y) - 1).log_prob(y)


def loss_sum(loss: keras.losses.Loss, truth: Any, prediction: Any) -> Any:
    """Keras' loss of each example, with its mean turned into a sum, [batch]."""
    flat = (truth.shape[0], math.prod(truth.shape[1:]))
    mean = loss(ops.reshape(truth, flat), ops.reshape(prediction, flat))
    return flat[1] * mean


LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
EPSILON = float(np.finfo(np.float32).eps)
# A logarithm, an exponential or an `erf` is within 4 roundings on every device;
# the arithmetic around it may have as many. A sum of n terms rounds n times
# more.
ROUNDINGS = 8


def assert_within(
    actual: np.ndarray, expected: Any, magnitude: Any, terms: int = 0
) -> None:
    """Equal up to roundings of numbers as large as `magnitude`."""
    error = np.abs(actual - expected)
    bound = (
        (ROUNDINGS + terms) * EPSILON * np.broadcast_to(magnitude, error.shape)
    )
    ratio = np.where(error == 0.0, 0.0, error / np.maximum(bound, 1e-300))
    # A NaN is not within any bound.
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)
    assert ratio[worst] <= 1.0, (
        f"{actual[worst]!r}, {np.broadcast_to(expected, error.shape)[worst]!r} "
        f"expected, {ratio[worst]:.3g} times the tolerance, at {worst}"
    )


# Batch, then event. Only a few, since each is compiled separately.
SHAPES = [(1, 1), (5, 1), (1, 7), (4, 7), (3, 3, 2), (2, 4, 4, 3)]


def powers_of_ten(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers whose logarithm is uniform."""
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


@dataclasses.dataclass(frozen=True)
class Case:
    """The numbers that determine the data of an example; cheap to draw."""

    shape: tuple[int, ...]
    seed: int
    spread: float

    def heavy_tailed(
        self, rng: np.random.Generator, *special: float
    ) -> np.ndarray:
        """Up to 8 spreads off zero, with one in eight each special value."""
        values = self.spread * np.clip(rng.standard_cauchy(self.shape), -8, 8)
        chosen = rng.integers(0, 8, self.shape)
        for i, value in enumerate(special):
            values[chosen == i] = value
        return values


@dataclasses.dataclass(frozen=True)
class Located(Case):
    """Data about locations, in units of a scale, one for each example.

    The residuals include exact zeros.
    """

    offset: float
    scale: float

    def draw(self, *special: float) -> tuple[np.ndarray, ...]:
        """y, loc and scale."""
        rng = np.random.default_rng(self.seed)
        each = (self.shape[0], *(1 for _ in self.shape[1:]))
        scale = np.float32(self.scale * rng.uniform(0.5, 2.0, each))
        loc = np.float32(self.offset * rng.normal(size=self.shape))
        y = loc + scale.astype(np.float64) * self.heavy_tailed(
            rng, 0.0, *special
        )
        return y.astype(np.float32), loc, scale


COMMON = {
    "shape": st.sampled_from(SHAPES),
    "seed": st.integers(0, 2**32 - 1),
}
unlocated = st.builds(Case, **COMMON, spread=powers_of_ten(-2, 2))
located = st.builds(
    Located,
    **COMMON,
    spread=powers_of_ten(-2, 2),
    offset=st.sampled_from([0.0, 1.0, 100.0]),
    scale=powers_of_ten(-2, 2),
)


def wide(*arrays: np.ndarray) -> list[np.ndarray]:
    return [np.asarray(a, np.float64) for a in arrays]


def over_event(array: np.ndarray) -> np.ndarray:
    """The sum over all axes except the first."""
    return array.reshape(len(array), -1).sum(1)


def residual(y: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    y, loc, scale = wide(y, loc, scale)
    return (y - loc) / scale


def from_formula(
    y: np.ndarray,
    loc: np.ndarray,
    scale: np.ndarray,
    rho: Callable[[np.ndarray], np.ndarray],
    slope: Callable[[np.ndarray], np.ndarray],
) -> Result:
    """The sum of rho(r) over the event, and its gradients in loc and scale."""
    r, s = residual(y, loc, scale), scale.astype(np.float64)
    d_scale = over_event(-r * slope(r) / s).reshape(s.shape)
    return Result(over_event(rho(r)), [-slope(r) / s, d_scale])


def assert_is_the_loss(
    ours: Result,
    loss: Result,
    scale: np.ndarray,
    log_z: float | None,
    value_slack: Any = 0.0,
    loc_slack: Any = 0.0,
    r: Any = 0.0,
) -> None:
    """-log p = loss + D (log scale + log Z), and so in the gradients.

    Without `log_z` the loss is minus a log density, with all its constants.

    The losses here are sums of positive terms, and so are their derivatives in
    the scale times the scale: the tolerance is relative to them. Where terms
    cancel, the slacks say how large they are, [batch] and in each element; the
    residuals `r`, which come with them, carry the slack of the locations over
    to the scales.
    """
    s = scale.astype(np.float64)
    log_s = np.log(s).reshape(-1)
    terms = ours.gradients[0][0].size
    constant, in_constant = 0.0, 0.0
    if log_z is not None:
        constant, in_constant = log_s + log_z, terms / s
    # The 1: log Z is computed from numbers of that order.
    sizes = np.abs(log_s) + np.abs(log_z or 0.0) + 1.0
    assert_within(
        ours.value,
        loss.value + terms * constant,
        np.abs(loss.value) + terms * sizes + value_slack,
        terms,
    )
    in_loc, in_scale = loss.gradients[:2]
    assert_within(ours.gradients[0], in_loc, np.abs(in_loc) + loc_slack)
    slack = over_event(np.abs(r) * loc_slack * np.ones_like(in_loc))
    assert_within(
        ours.gradients[1],
        in_scale + in_constant,
        np.abs(in_scale) + terms / s + slack.reshape(s.shape),
        terms,
    )


def slack_of_normal(
    y: np.ndarray, loc: np.ndarray, scale: np.ndarray
) -> dict[str, np.ndarray]:
    """What TFP's Normal loses: it subtracts loc / scale from y / scale."""
    r = residual(y, loc, scale)
    rounded = (np.abs(y) + np.abs(loc)) / scale.astype(np.float64)
    return {
        "value_slack": over_event(np.abs(r) * rounded),
        "loc_slack": rounded / scale,
        "r": r,
    }


def exact_log_cosh(r: np.ndarray) -> np.ndarray:
    """By log1p(2 sinh(r / 2)**2) where nothing overflows."""
    near = np.log1p(2.0 * np.square(np.sinh(np.clip(r, -20.0, 20.0) / 2.0)))
    far = np.abs(r) + np.log1p(np.exp(-2.0 * np.abs(r))) - math.log(2.0)
    return np.where(np.abs(r) < 20.0, near, far)


@compiled
def huber_nll(y, loc, scale, delta):
    return nll(Huber(loc, scale, delta), y)


@compiled
def huber_log_prob(y, loc, scale, delta):
    return Huber(loc, scale, delta).log_prob(y)


@compiled
def huber_near_laplace(y, loc, scale, delta):
    return nll(Huber(loc, scale * delta, delta), y)


@compiled
def huber_loss(y, loc, scale, delta):
    r = (y - loc) / scale
    loss = keras.losses.Huber(delta=delta, reduction=None)
    return loss_sum(loss, r, ops.zeros_like(r))


@compiled
def normal_nll(y, loc, scale):
    return nll(tfd.Normal(loc, scale), y)


@compiled
def mse(y, loc, scale):
    loss = keras.losses.MeanSquaredError(reduction=None)
    each = loss_sum(loss, y, loc)
    return each / (2.0 * ops.square(ops.reshape(scale, (-1,))))


@compiled
def laplace_nll(y, loc, scale):
    return nll(tfd.Laplace(loc, scale), y)


@compiled
def mae(y, loc, scale):
    loss = keras.losses.MeanAbsoluteError(reduction=None)
    return loss_sum(loss, y, loc) / ops.reshape(scale, (-1,))


@compiled
def secant_nll(y, loc, scale):
    return nll(HyperbolicSecant(loc, scale), y)


@compiled
def log_cosh(y, loc, scale):
    r = (y - loc) / scale
    loss = keras.losses.LogCosh(reduction=None)
    return loss_sum(loss, r, ops.zeros_like(r))


@compiled
def asymmetric_nll(y, loc, scale, level):
    return nll(AsymmetricLaplace(loc, scale, level), y)


@compiled
def barron_nll(y, loc, scale, alpha):
    return nll(Barron(loc, scale, alpha), y)


@compiled
def bernoulli_nll(x, logits):
    return nll(Bernoulli(logits, dtype=logits.dtype), x)


@compiled
def binary_crossentropy(x, logits):
    loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)
    return loss_sum(loss, x, logits)


@compiled
def poisson_nll(x, log_rate):
    return nll(tfd.Poisson(log_rate=log_rate), x)


@compiled
def poisson_loss(x, log_rate):
    loss = keras.losses.Poisson(reduction=None)
    return loss_sum(loss, x, ops.exp(log_rate))


@compiled
def categorical_nll(labels, logits):
    return nll(tfd.Categorical(logits=logits), labels)


@compiled
def categorical_crossentropy(labels, logits):
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, reduction=None
    )
    each = loss(ops.one_hot(labels, logits.shape[-1]), logits)
    return ops.sum(ops.reshape(each, (labels.shape[0], -1)), axis=-1)


def test_runs_where_it_is_told_to(device):  # noqa: F811
    """Otherwise a run on the CPU would count as a test of the GPU."""
    y = ops.convert_to_tensor(np.ones((2, 3), np.float32))
    assert where(y) == device
    assert where(jit(lambda v: Huber(v).log_prob(0.5))(y)) == device


@given(
    delta=powers_of_ten(-2, 2),
    scale=powers_of_ten(-2, 2),
    loc=st.floats(-100, 100),
)
def test_huber_integrates_to_one_whatever_its_parameters(delta, scale, loc):
    """So the mean of each score, the gradient of that integral, is zero."""
    # The centre as far as the normal reaches in float64; beyond the threshold
    # r = delta + u / delta, where the density is exp(-u) times a constant.
    node, weight = np.polynomial.legendre.leggauss(60)
    reach = min(delta, 12.0)
    u, tail_weight = np.polynomial.laguerre.laggauss(20)
    r = np.concatenate([reach * (node + 1) / 2, delta + u / delta])
    weight = np.concatenate(
        [reach * weight / 2, tail_weight * np.exp(u) / delta]
    )
    r, weight = np.concatenate([-r, r]), scale * np.tile(weight, 2)
    parameters = [np.full_like(r, p) for p in (loc, scale, delta)]
    with float64():
        found = huber_log_prob(loc + scale * r, *parameters)
    mass = weight * np.exp(found.value)
    # y rounds by 1e-16 |loc| and r by that divided by the scale, 1e-12 at most;
    # where there is mass, the log density moves 12 times as much.
    assert mass.sum() == pytest.approx(1.0, abs=1e-10)
    units = (scale, scale, delta)
    for score, unit in zip(found.gradients, units, strict=True):
        assert mass @ score * unit == pytest.approx(0.0, abs=1e-10)


@given(case=located, delta=st.sampled_from([1e3, math.inf]))
def test_huber_is_the_normal_as_delta_grows(case, delta):
    """All residuals are below 1000 scales."""
    y, loc, scale = case.draw()
    assert_is_the_loss(
        huber_nll(y, loc, scale, np.float32(delta)),
        normal_nll(y, loc, scale),
        scale,
        None,
        **slack_of_normal(y, loc, scale),
    )


@given(case=located, delta=powers_of_ten(-6, -3))
def test_huber_is_the_laplace_as_delta_falls(case, delta):
    """At a fixed scale / delta; the two are delta**2 apart.

    At the peak of the Laplace density, TFP's has the derivative of one side or
    the other on JAX; Huber's is 0.
    """
    y, loc, scale = case.draw()
    delta = np.float32(delta)
    # Within delta**2 <= 1e-6 of the centre the density is round.
    size = np.abs(residual(y, loc, scale))
    hypothesis.assume(((size == 0.0) | (size > 1e-5)).all())
    # log scale and log Z contain log delta, once with either sign.
    slack = 2.0 * abs(math.log(delta)) + delta**2 / EPSILON
    assert_is_the_loss(
        huber_near_laplace(y, loc, scale, delta),
        from_formula(y, loc, scale, np.abs, np.sign),
        scale,
        math.log(2.0),
        value_slack=size[0].size * slack,
    )


@given(case=located, delta=powers_of_ten(-2, 2))
def test_huber_is_the_huber_loss(case, delta):
    delta = np.float32(delta)
    # Includes residuals on the thresholds, within rounding.
    y, loc, scale = case.draw(delta, -delta)
    assert_is_the_loss(
        huber_nll(y, loc, scale, delta),
        huber_loss(y, loc, scale, delta),
        scale,
        huber_log_z(float(delta)),
    )


@given(case=located)
def test_normal_is_the_mean_squared_error(case):
    y, loc, scale = case.draw()
    assert_is_the_loss(
        normal_nll(y, loc, scale),
        mse(y, loc, scale),
        scale,
        LOG_SQRT_2PI,
        **slack_of_normal(y, loc, scale),
    )


@given(case=located)
def test_laplace_is_the_mean_absolute_error(case):
    """Zeros too, where both have the backend's derivative."""
    y, loc, scale = case.draw()
    assert_is_the_loss(
        laplace_nll(y, loc, scale), mae(y, loc, scale), scale, math.log(2.0)
    )


@given(case=located)
def test_hyperbolic_secant_is_the_log_cosh_loss(case):
    """The density is sech(r) / pi."""
    y, loc, scale = case.draw()
    r = residual(y, loc, scale)
    # Keras' r + softplus(-2 r) - log 2 cancels: numbers up to 2 |r| and log 2
    # in the value; 1 in the slope. On JAX the slope of softplus is the
    # exponential of a difference of numbers up to 16: beyond, it rounds to 0 or
    # 1.
    assert_is_the_loss(
        secant_nll(y, loc, scale),
        log_cosh(y, loc, scale),
        scale,
        math.log(math.pi),
        value_slack=over_event(2.0 * np.abs(r) + 1.0),
        loc_slack=(1.0 + np.minimum(np.abs(r), 16.0)) / scale,
        r=r,
    )
    # The formula does not cancel.
    assert_is_the_loss(
        secant_nll(y, loc, scale),
        from_formula(y, loc, scale, exact_log_cosh, np.tanh),
        scale,
        math.log(math.pi),
    )


@given(case=located, level=st.floats(0.01, 0.99))
def test_asymmetric_laplace_is_the_pinball_loss(case, level):
    """At zero, where there is no derivative, it is 0."""
    y, loc, scale = case.draw()
    level = np.float32(level)
    tau = float(level)
    assert_is_the_loss(
        asymmetric_nll(y, loc, scale, level),
        from_formula(
            y,
            loc,
            scale,
            lambda r: np.maximum(tau * r, (tau - 1.0) * r),
            lambda r: np.where(r > 0, tau, tau - 1.0) * (r != 0),
        ),
        scale,
        -math.log(tau) - math.log1p(-tau),
    )


# The shape, the loss, its slope and log Z of the standard density.
BARRONS = {
    "cauchy": (
        0.0,
        lambda r: np.log1p(r * r / 2.0),
        lambda r: r / (1.0 + r * r / 2.0),
        math.log(math.pi * math.sqrt(2.0)),
    ),
    "charbonnier": (
        1.0,
        # sqrt(1 + r**2) - 1 without the cancellation.
        lambda r: r * r / (np.sqrt(1.0 + r * r) + 1.0),
        lambda r: r / np.sqrt(1.0 + r * r),
        math.log(2.0 * math.e * scipy.special.k1(1.0)),
    ),
    "normal": (2.0, lambda r: r * r / 2.0, lambda r: r, LOG_SQRT_2PI),
}


@pytest.mark.parametrize("name", BARRONS)
@given(case=located)
def test_barron_is_three_known_losses(name, case):
    y, loc, scale = case.draw()
    alpha, rho, slope, log_z = BARRONS[name]
    r = residual(y, loc, scale)
    # A power of 1 + r**2 / b is the exponential of its logarithm.
    logarithm = np.log1p(r * r) * (alpha != 2.0)
    assert_is_the_loss(
        barron_nll(y, loc, scale, np.float32(alpha)),
        from_formula(y, loc, scale, rho, slope),
        scale,
        log_z,
        value_slack=over_event(rho(r) * logarithm),
        loc_slack=np.abs(slope(r)) * logarithm / scale,
        r=r,
    )


@given(case=unlocated)
def test_bernoulli_is_the_binary_crossentropy(case):
    """Includes logits that are exactly 0, and soft targets."""
    rng = np.random.default_rng(case.seed)
    # exp(-80) is still a normal number.
    logits = np.clip(case.heavy_tailed(rng, 0.0, -0.0), -80.0, 80.0)
    logits = logits.astype(np.float32)
    x = np.float32(rng.integers(0, 2, case.shape))
    soft = rng.random(case.shape) < 0.25
    x[soft] = rng.random(soft.sum())
    ours = bernoulli_nll(x, logits)
    keras_loss = binary_crossentropy(x, logits)
    x, logits = wide(x, logits)
    # With hard targets nothing cancels, for any small loss.
    assert_within(
        ours.value,
        keras_loss.value,
        keras_loss.value + over_event(np.abs(logits) * soft),
        x[0].size,
    )
    # Minus x. On JAX Keras' slope is the exponential of a difference of numbers
    # up to 16, see the hyperbolic secant; ours is close to the sigmoid itself.
    (in_logits,) = ours.gradients
    assert_within(
        in_logits,
        keras_loss.gradients[0],
        1.0 + np.minimum(np.abs(logits), 16.0),
    )
    assert_within(in_logits, scipy.special.expit(logits) - x, 1.0)


@given(case=unlocated)
def test_poisson_is_the_poisson_loss(case):
    """Keras takes log(rate + epsilon), and leaves out log x!."""
    rng = np.random.default_rng(case.seed)
    log_rate = np.clip(case.heavy_tailed(rng, 0.0), -7.0, 7.0)
    log_rate = log_rate.astype(np.float32)
    rate = np.exp(log_rate.astype(np.float64))
    # Half of the counts do not match their rates: there epsilon matters.
    counts = rng.poisson(np.where(rng.random(case.shape) < 0.5, rate, 3.0))
    x = counts.astype(np.float32)
    ours, theirs = poisson_nll(x, log_rate), poisson_loss(x, log_rate)
    log_factorial = scipy.special.gammaln(counts + 1.0)
    epsilon = keras.config.epsilon()
    assert_within(
        ours.value,
        theirs.value
        + over_event(counts * np.log1p(epsilon / rate) + log_factorial),
        # The 1: gammaln crosses zero at 1 and 2. Rounding rate + epsilon moves
        # its logarithm by the relative rounding, hence the other one.
        over_event(
            rate + counts * (np.abs(log_rate) + 1.0) + log_factorial + 1.0
        ),
        x[0].size,
    )
    assert_within(
        ours.gradients[0],
        theirs.gradients[0] - counts * epsilon / (rate + epsilon),
        rate + counts,
    )


@given(case=unlocated, classes=st.sampled_from([2, 5]))
def test_categorical_is_the_categorical_crossentropy(case, classes):
    case = dataclasses.replace(case, shape=(*case.shape, classes))
    rng = np.random.default_rng(case.seed)
    logits = case.heavy_tailed(rng, 0.0).astype(np.float32)
    labels = rng.integers(0, classes, case.shape[:-1], np.int32)
    ours = categorical_nll(labels, logits)
    theirs = categorical_crossentropy(labels, logits)
    # The logarithm of the sum is as large as the largest logit.
    top = np.abs(logits.astype(np.float64)).max(-1) + math.log(classes)
    assert_within(ours.value, theirs.value, over_event(top), labels[0].size)
    # A probability is at most 1, and p |log p| at most 1 / e.
    (in_logits,) = ours.gradients
    assert_within(in_logits, theirs.gradients[0], 1.0)
    softmax = scipy.special.softmax(logits.astype(np.float64), axis=-1)
    assert_within(in_logits, softmax - np.eye(classes)[labels], 1.0)
