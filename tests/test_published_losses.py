"""The losses that tutorials write by hand are ELBOs of ours, with some beta.

Each is written here as it was published, except that `K` and `tf` are `ops`,
and compared with the ELBO with the likelihood, the beta and the constant of
docs/losses.md: in value, and in the gradients that reach decoder and encoder.
The numbers and the code of that page are checked too.
"""

import dataclasses
import functools
import itertools
import math
import pathlib
import re
from collections.abc import Callable
from typing import Any

import keras
import mpmath
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from oracles import huber_energy, huber_log_z
from support import gradients, numpy, value_and_gradients

from tfp_vae import ELBO
from tfp_vae.distributions import Huber
from tfp_vae.layers import (
    IndependentBernoulli,
    IndependentHuber,
    IndependentNormal,
)
from tfp_vae.losses import effective_beta, likelihood_from_loss
from tfp_vae.substrate import jit, tfd

PAGE = (
    pathlib.Path(__file__).parents[1].joinpath("docs", "losses.md").read_text()
)
L = keras.losses


# As published. `decoded` is the decoder's output; each returns a scalar.


def keras_blog(x: Any, decoded: Any, z_mean: Any, z_log_sigma: Any) -> Any:
    """The mean over the batch comes from `compile`."""
    xent_loss = L.binary_crossentropy(x, decoded)
    kl_loss = -0.5 * ops.mean(
        1 + z_log_sigma - ops.square(z_mean) - ops.exp(z_log_sigma), axis=-1
    )
    return ops.mean(xent_loss + kl_loss)


def kl_sum(z_mean: Any, z_log_var: Any) -> Any:
    """As in the Keras example, [B]."""
    return -0.5 * ops.sum(
        1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var), axis=-1
    )


def early_example(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    xent_loss = L.binary_crossentropy(x, decoded)
    return ops.mean(xent_loss + kl_sum(z_mean, z_log_var))


def keras_example(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    original_dim = x.shape[-1]
    xent_loss = original_dim * L.binary_crossentropy(x, decoded)
    return ops.mean(xent_loss + kl_sum(z_mean, z_log_var))


def example_with_mse(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    reconstruction_loss = x.shape[-1] * L.mean_squared_error(x, decoded)
    return ops.mean(reconstruction_loss + kl_sum(z_mean, z_log_var))


def keras_io(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    reconstruction_loss = ops.mean(
        ops.sum(L.binary_crossentropy(x, decoded), axis=(1, 2))
    )
    kl_loss = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
    return reconstruction_loss + ops.mean(ops.sum(kl_loss, axis=1))


def older_keras_io(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    """`size` is 28 * 28 there."""
    size = math.prod(x.shape[1:])
    reconstruction_loss = size * ops.mean(L.binary_crossentropy(x, decoded))
    kl_loss = 1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var)
    return reconstruction_loss + -0.5 * ops.mean(kl_loss)


BETA = 4.0


def beta_vae(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    per_pixel = ops.mean(ops.binary_crossentropy(x, decoded), axis=(1, 2, 3))
    reconstruction = math.prod(x.shape[1:]) * per_pixel
    return ops.mean(reconstruction + BETA * kl_sum(z_mean, z_log_var))


def beta_vae_mse(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    per_pixel = ops.mean(ops.square(x - decoded), axis=(1, 2, 3))
    reconstruction = math.prod(x.shape[1:]) * per_pixel
    return ops.mean(reconstruction + BETA * kl_sum(z_mean, z_log_var))


def guide(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    """The KL goes through `add_loss`: it is all of `vae.losses`."""
    losses = [
        -0.5 * ops.mean(z_log_var - ops.square(z_mean) - ops.exp(z_log_var) + 1)
    ]
    loss = L.MeanSquaredError()(x, decoded)
    loss += sum(losses)
    return loss


def guide_with_huber(x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    kl_loss = -0.5 * ops.mean(
        z_log_var - ops.square(z_mean) - ops.exp(z_log_var) + 1
    )
    return L.Huber()(x, decoded) + kl_loss


def appendix_b(mu: Any, log_var: Any) -> Any:
    """-KL of one example, [B]: the end of Kingma and Welling's appendix B."""
    variance = ops.exp(log_var)
    return ops.sum(1 + ops.log(variance) - mu**2 - variance, axis=1) / 2


def appendix_c1(x: Any, y: Any, mu: Any, log_var: Any) -> Any:
    """Minus the bound, equation 10 with one sample, Bernoulli decoder."""
    log_p = ops.sum(x * ops.log(y) + (1 - x) * ops.log(1 - y), axis=1)
    return -ops.mean(appendix_b(mu, log_var) + log_p)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the page's table.

    Attributes:
        published: the loss, from x, the decoder's and the encoder's outputs.
        loss: the Keras loss of one element.
        reduction: of `effective_beta`, for an example of a given shape.
        shape: of an example, where it was published.
        latent_size: likewise.
        spread: of the data, so that both branches of a Huber loss are taken.
    """

    published: Callable[..., Any]
    loss: str
    reduction: Callable[[tuple[int, ...]], dict[str, Any]]
    shape: tuple[int, ...] = (784,)
    latent_size: int = 2
    spread: float = 1.0

    def beta(self, shape: tuple[int, ...], latent_size: int) -> float:
        return effective_beta(
            math.prod(shape), latent_size, **self.reduction(shape)
        )

    def factor(self, shape: tuple[int, ...]) -> float:
        """What the docstring of `effective_beta` calls the scale."""
        how = self.reduction(shape)
        size = 1 if how.get("reconstruction") == "sum" else math.prod(shape)
        return how.get("reconstruction_weight", 1.0) / size


def times_size(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"kl": "sum", "reconstruction_weight": math.prod(shape)}


IMAGE = (28, 28, 1)
ROWS = {
    "Keras blog": Row(keras_blog, "binary_crossentropy", lambda shape: {}),
    "Keras example, early": Row(
        early_example, "binary_crossentropy", lambda shape: {"kl": "sum"}
    ),
    "Keras example": Row(keras_example, "binary_crossentropy", times_size),
    "Keras example, `--mse`": Row(example_with_mse, "mse", times_size),
    "keras.io": Row(
        keras_io,
        "binary_crossentropy",
        lambda shape: {
            "reconstruction": "sum",
            "kl": "sum",
            "reconstruction_weight": 1 / shape[-1],
        },
        IMAGE,
    ),
    "keras.io, older": Row(
        older_keras_io,
        "binary_crossentropy",
        lambda shape: {"reconstruction_weight": math.prod(shape)},
        IMAGE,
    ),
    "beta-VAE code": Row(
        beta_vae,
        "binary_crossentropy",
        lambda shape: {**times_size(shape), "kl_weight": BETA},
        (64, 64, 1),
        10,
    ),
    "beta-VAE code, squared": Row(
        beta_vae_mse,
        "mse",
        lambda shape: {**times_size(shape), "kl_weight": BETA},
        (64, 64, 1),
        10,
    ),
    "Subclassing guide": Row(guide, "mse", lambda shape: {}, latent_size=32),
    "Subclassing guide, Huber": Row(
        guide_with_huber, "huber", lambda shape: {}, latent_size=32, spread=6.0
    ),
    "Kingma and Welling, C.1": Row(
        appendix_c1,
        "binary_crossentropy",
        lambda shape: {"reconstruction": "sum", "kl": "sum"},
    ),
}
FLAT = [((1, 1), 1), ((4, 6), 3), ((3, 17), 8)]
IMAGES = [((1, 2, 3, 1), 2), ((3, 4, 4, 3), 5)]


def ours(row: Row, x: Any, decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
    """The ELBO's side of the equation."""
    shape = tuple(x.shape[1:])
    likelihood = likelihood_from_loss(row.loss)
    terms = ELBO(beta=row.beta(shape, z_mean.shape[1]))(
        x,
        posterior=tfd.MultivariateNormalDiag(z_mean, ops.exp(z_log_var / 2)),
        likelihood=likelihood.distribution(decoded),
    )
    return row.factor(shape) * ops.mean(
        -terms.objective - likelihood.constant(x)
    )


@functools.cache
def compiled(name: str) -> Callable[..., Any]:
    """The published loss and ours, with gradients, and the constant.

    A function of x and the rest; compiled once for all data of one shape.
    """
    row = ROWS[name]

    def all_of_it(x: Any, *parts: Any) -> tuple[Any, Any, Any]:
        constant = ops.mean(likelihood_from_loss(row.loss).constant(x))
        return (
            value_and_gradients(row.published, x, *parts),
            value_and_gradients(functools.partial(ours, row), x, *parts),
            row.factor(tuple(x.shape[1:])) * constant,
        )

    return jit(all_of_it)


def draw(
    rng: np.random.Generator, shape: tuple[int, ...], latent: int
) -> list[np.ndarray]:
    """Grey levels and bits, probabilities, means and log variances.

    Keras' clipping of probabilities at 1e-7 is out of reach.
    """
    x = rng.uniform(size=shape)
    x = np.where(rng.random(shape) < 0.5, np.round(x), x)
    parts = (
        x,
        rng.uniform(0.02, 0.98, shape),
        *rng.normal(size=(2, shape[0], latent)),
    )
    return [part.astype("float32") for part in parts]


# Sums of at most 4096 terms of one sign. Random roundings of 6e-8 add up to
# 64 * 6e-8 = 4e-6, and the terms have a few of their own.
ROUNDINGS = 1e-5


def assert_same(found: Any, expected: Any, magnitude: Any = 0.0) -> None:
    """Equal to float precision, relative to the largest number involved."""
    expected = numpy(expected)
    size = np.abs(expected).max() + np.abs(numpy(magnitude))
    np.testing.assert_allclose(
        numpy(found), expected, rtol=0.0, atol=ROUNDINGS * float(size)
    )


def assert_same_gradients(
    found: list[Any],
    expected: list[Any],
    magnitudes: tuple[float, ...] = (),
) -> None:
    magnitudes = magnitudes or (0.0,) * len(found)
    for mine, theirs, magnitude in zip(
        found, expected, magnitudes, strict=True
    ):
        assert np.abs(numpy(theirs)).max() > 0
        assert_same(mine, theirs, magnitude)


def assert_same_function(
    found: Callable[..., Any],
    expected: Callable[..., Any],
    *at: np.ndarray,
    magnitude: float = 0.0,
) -> None:
    """In value and in gradients."""

    def both(*at: Any) -> Any:
        return [
            value_and_gradients(lambda f, *p: f(*p), function, *at)
            for function in (found, expected)
        ]

    tensors = [ops.convert_to_tensor(part) for part in at]
    (value, slopes), (exact, exact_slopes) = jit(both)(*tensors)
    assert_same(value, exact, magnitude)
    assert_same_gradients(slopes, exact_slopes)


def check(
    name: str, shape: tuple[int, ...], latent: int, rng: np.random.Generator
) -> None:
    row = ROWS[name]
    x, decoded, *encoded = draw(rng, shape, latent)
    parts = (row.spread * x, row.spread * decoded, *encoded)
    (expected, theirs), (value, mine), constant = compiled(name)(
        *map(ops.convert_to_tensor, parts)
    )
    assert_same(value, expected, constant)
    # The rounding where the gradient is a small difference: of x and `decoded`,
    # and of the variance and 1.
    data = 2.0 * row.spread * row.factor(shape[1:]) / shape[0]
    kl = row.beta(shape[1:], latent) * row.factor(shape[1:]) / shape[0]
    assert_same_gradients(mine, theirs, (data, kl, kl))


@pytest.mark.parametrize("name", ROWS)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_is_an_elbo(name, data, seed):
    """published = factor * mean(-objective - constant)."""
    shapes = FLAT if len(ROWS[name].shape) == 1 else IMAGES
    shape, latent = data.draw(st.sampled_from(shapes))
    check(name, shape, latent, np.random.default_rng(seed))


@pytest.mark.parametrize("name", ROWS)
def test_is_an_elbo_where_it_was_published(name):
    row = ROWS[name]
    rng = np.random.default_rng(0)
    check(name, (2, *row.shape), row.latent_size, rng)


def sampled(
    mean: Any, log_var: Any, noise: Any
) -> tuple[tfd.Distribution, Any]:
    posterior = tfd.MultivariateNormalDiag(mean, ops.exp(log_var / 2))
    return posterior, mean + ops.exp(log_var / 2) * noise


def log_normal_pdf(sample: Any, mean: Any, logvar: Any) -> Any:
    """As in the TensorFlow tutorial, [B]."""
    log2pi = math.log(2.0 * math.pi)
    return ops.sum(
        -0.5 * ((sample - mean) ** 2.0 * ops.exp(-logvar) + logvar + log2pi),
        axis=1,
    )


@pytest.mark.parametrize(("shape", "latent"), [*IMAGES[1:], ((2, *IMAGE), 2)])
def test_tensorflow_cvae(shape, latent):
    """log p(x|z) + log p(z) - log q(z|x) at one z, which the decoder takes.

    The decoder is linear here, so that gradients reach the encoder through z
    as well.
    """
    rng = np.random.default_rng(1)
    x, _, mean, logvar = draw(rng, shape, latent)
    x = np.round(x)
    noise = rng.normal(size=mean.shape).astype("float32")
    kernel = rng.normal(size=(latent, x[0].size)).astype("float32")

    def published(kernel: Any, mean: Any, logvar: Any) -> Any:
        z = noise * ops.exp(logvar * 0.5) + mean
        x_logit = ops.reshape(z @ kernel, shape)
        # As documented for `tf.nn.sigmoid_cross_entropy_with_logits`.
        cross_ent = (
            ops.maximum(x_logit, 0)
            - x_logit * x
            + ops.log1p(ops.exp(-ops.abs(x_logit)))
        )
        logpx_z = -ops.sum(cross_ent, axis=[1, 2, 3])
        logpz = log_normal_pdf(z, 0.0, 0.0)
        logqz_x = log_normal_pdf(z, mean, logvar)
        return -ops.mean(logpx_z + logpz - logqz_x)

    layer = IndependentBernoulli(shape[1:])
    elbo = ELBO(kl="monte_carlo")

    def mine(kernel: Any, mean: Any, logvar: Any) -> Any:
        posterior, z = sampled(mean, logvar, noise)
        likelihood = layer(ops.reshape(z @ kernel, shape))
        terms = elbo(x, posterior=posterior, likelihood=likelihood, z=z)
        return -ops.mean(terms.objective)

    assert_same_function(mine, published, kernel, mean, logvar)


@pytest.mark.parametrize(("shape", "latent"), [*FLAT[1:], ((2, 560), 2)])
def test_gaussian_decoder_of_kingma_and_welling(shape, latent):
    """Appendix C.2: mean and log variance both come from the decoder."""
    rng = np.random.default_rng(2)
    x, loc, mean, log_var = draw(rng, shape, latent)
    log_var_x = rng.normal(size=shape).astype("float32")

    def published(loc: Any, log_var_x: Any, mean: Any, log_var: Any) -> Any:
        log_p = ops.sum(
            -0.5 * math.log(2 * math.pi)
            - log_var_x / 2
            - (x - loc) ** 2 / (2 * ops.exp(log_var_x)),
            axis=1,
        )
        return -ops.mean(appendix_b(mean, log_var) + log_p)

    def mine(loc: Any, log_var_x: Any, mean: Any, log_var: Any) -> Any:
        likelihood = tfd.Normal(loc, ops.exp(log_var_x / 2))
        terms = ELBO()(
            x,
            posterior=tfd.MultivariateNormalDiag(mean, ops.exp(log_var / 2)),
            likelihood=tfd.Independent(likelihood, 1),
        )
        return -ops.mean(terms.objective)

    # log sigma may cancel with the constant.
    at = loc, log_var_x, mean, log_var
    assert_same_function(mine, published, *at, magnitude=x[0].size)


@pytest.mark.parametrize(
    ("loss", "layer", "to_parameters"),
    [
        (
            "binary_crossentropy",
            IndependentBernoulli(5),
            lambda y: np.log(y / (1 - y)),
        ),
        ("mse", IndependentNormal(5, scale=0.5**0.5), lambda y: y),
        ("huber", IndependentHuber(5, scale=1.0, delta=1.0), lambda y: y),
    ],
)
def test_the_layers_of_the_page_are_these_likelihoods(
    loss, layer, to_parameters
):
    x, decoded, _, _ = draw(np.random.default_rng(3), (4, 5), 1)
    assert type(layer).__name__ in PAGE
    assert_same(
        layer(ops.convert_to_tensor(to_parameters(decoded))).log_prob(x),
        likelihood_from_loss(loss).distribution(decoded).log_prob(x),
        5.0,
    )


# A beta with a fixed scale is another scale.


def normal_of(scale: float) -> tuple[Any, float, float]:
    """Layer, its factor to a sum of squares, its constant per element."""
    layer = IndependentNormal(6, scale=scale)
    return layer, 2 * scale**2, math.log(scale * math.sqrt(2 * math.pi))


def huber_of(scale: float) -> tuple[Any, float, float]:
    """The threshold stays 1 in the units of the data."""
    layer = IndependentHuber(6, scale=scale, delta=1 / scale)
    return layer, scale**2, math.log(scale) + huber_log_z(1 / scale)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.5])
@pytest.mark.parametrize(
    ("name", "likelihood"),
    [
        ("Subclassing guide", normal_of),
        ("Subclassing guide, Huber", huber_of),
    ],
)
def test_a_beta_is_a_scale(name, likelihood, scale):
    """The loss is also an ELBO at any other scale, with a proportional beta."""
    row = ROWS[name]
    x, decoded, *encoded = draw(np.random.default_rng(4), (4, 6), 3)
    x, decoded = row.spread * x, row.spread * decoded
    layer, factor, lacks = likelihood(scale)

    def published(*parts: Any) -> Any:
        return row.published(x, *parts)

    def mine(decoded: Any, z_mean: Any, z_log_var: Any) -> Any:
        terms = ELBO(beta=row.beta((6,), 3) / factor)(
            x,
            posterior=tfd.MultivariateNormalDiag(
                z_mean, ops.exp(z_log_var / 2)
            ),
            likelihood=layer(decoded),
        )
        loss = ops.mean(-terms.objective) - 6 * lacks
        return row.factor((6,)) * factor * loss

    at = decoded, *encoded
    assert_same_function(mine, published, *at, magnitude=factor * lacks)


# The blog, which draws with a spread other than that of its KL.


def kl_of_blog(mu: Any, tau: Any) -> Any:
    """Penalty of one coordinate of deviation tau = exp(z_log_sigma)."""
    return (mu**2 + tau - 1 - mpmath.log(tau)) / 2


def kl_of_draws(mu: Any, tau: Any) -> Any:
    """KL of what it draws, Normal(mu, tau), from the standard normal."""
    return (mu**2 + tau**2 - 1 - 2 * mpmath.log(tau)) / 2


def test_blog_charges_too_little_for_what_it_draws():
    """At most the KL, and equal to it where the spread is 1."""
    rng = np.random.default_rng(5)
    z_mean, z_log_sigma = rng.normal(size=(2, 50, 1)).astype("float32")
    z_log_sigma[0] = 0.0
    x = np.zeros((50, 1), "float32")
    kl = ELBO()(
        x,
        posterior=tfd.MultivariateNormalDiag(z_mean, ops.exp(z_log_sigma)),
        likelihood=likelihood_from_loss("mse").distribution(x),
    ).kl
    blog = kl_sum(z_mean, z_log_sigma)
    tau = np.exp(z_log_sigma[:, 0].astype("float64"))
    # (2 tau + 1)(tau - 1) / tau is the slope of this, least at tau = 1.
    gap = (tau**2 - tau - np.log(tau)) / 2
    assert gap[0] == 0
    assert (gap[1:] > 0).all()
    assert_same(kl - blog, gap, numpy(kl).max())


def test_blog_charges_a_quarter_to_a_half_for_a_spread_below_one():
    tau = [mpmath.mpf(10) ** -e for e in (60, 30, 10, 3, 1, 0.1, 1e-3, 1e-9)]
    share = [kl_of_blog(0, t) / kl_of_draws(0, t) for t in tau]
    assert all(a > b for a, b in itertools.pairwise(share))
    assert share[-1] == pytest.approx(1 / 4, rel=1e-8)
    assert share[0] == pytest.approx(1 / 2, rel=1e-2)


def test_no_prior_has_the_penalty_of_the_blog():
    """For any prior p, and any weight of the penalty.

    C = E[-log p(z)] over z ~ Normal(mu, tau) obeys dC/dtau = tau d2C/dmu2, and
    weight * penalty = C - log tau up to a constant. So the weight is one for
    which dC/dtau = tau d2C/dmu2: the same at each tau, if there is a prior.
    """

    def weight(penalty: Callable[..., Any], tau: float) -> float:
        slope = mpmath.diff(penalty, (0.3, tau), (0, 1))
        curvature = mpmath.diff(penalty, (0.3, tau), (2, 0))
        return float(1 / tau / (tau * curvature - slope))

    spreads = [0.5, 1.0, 2.0]
    exact = [weight(kl_of_draws, tau) for tau in spreads]
    np.testing.assert_allclose(exact, 1.0, rtol=1e-9)
    blog = [weight(kl_of_blog, tau) for tau in spreads]
    np.testing.assert_allclose(blog, [2.0, 1.0, 2.0 / 7.0], rtol=1e-9)


# The Huber loss with a learned scale or threshold.


@pytest.fixture(scope="module")
def residuals() -> np.ndarray:
    """Normal ones, and a tenth of them five times as large."""
    rng = np.random.default_rng(6)
    r = rng.normal(size=500)
    r[:50] *= 5.0
    return r.astype("float32")


def unnormalized(r: Any, scale: Any, delta: Any) -> Any:
    size = ops.abs(r / scale)
    tail = delta * size - 0.5 * delta**2
    return ops.mean(ops.where(size <= delta, size**2 / 2, tail))


def normalized(r: Any, scale: Any, delta: Any) -> Any:
    return -ops.mean(Huber(0.0, scale, delta).log_prob(r))


def test_unnormalized_huber_runs_away(residuals):
    """With an infinite scale, or a threshold of 0, it becomes 0."""
    for scale in np.float32([1e-3, 1.0, 1e3]):
        (slope,) = gradients(lambda s: unnormalized(residuals, s, 1.345), scale)
        assert slope < 0
    for delta in np.float32([1e-3, 1.0, 10.0]):
        (slope,) = gradients(lambda d: unnormalized(residuals, 1.0, d), delta)
        assert slope > 0
    assert 0 < unnormalized(residuals, 1e6, 1.345) < 1e-11
    assert 0 < unnormalized(residuals, 1.0, 1e-6) < 1e-5


def test_log_scale_alone_does_not_stop_it(residuals):
    """Below all bounds, along delta = scale**2."""
    scales = np.exp([-5.0, -10.0, -20.0]).astype("float32")
    losses = [
        float(unnormalized(residuals, s, s**2)) + np.log(s) for s in scales
    ]
    np.testing.assert_allclose(losses, [-5.0, -10.0, -20.0], rtol=0.01)


def test_normalized_huber_has_an_optimum(residuals):
    """At a finite scale and threshold, where its gradients vanish."""
    r = residuals.astype("float64")

    def by_hand(logs: np.ndarray) -> float:
        scale, delta = np.exp(logs)
        energy = np.mean(huber_energy(r / scale, delta))
        return energy + logs[0] + huber_log_z(delta)

    found = scipy.optimize.minimize(
        by_hand, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-6}
    )
    scale, delta = np.exp(found.x).astype("float32")
    assert 0.5 < scale < 2.0
    assert 0.5 < delta < 3.0
    assert float(normalized(residuals, scale, delta)) == pytest.approx(
        found.fun, rel=1e-5
    )

    def loss(scale: Any, delta: Any) -> Any:
        return normalized(residuals, scale, delta)

    # In the logarithm both slopes are of order 0.1 to 1 elsewhere.
    np.testing.assert_allclose(gradients(loss, scale, delta), 0.0, atol=1e-4)
    (too_small, _), (too_large, _) = (
        gradients(loss, c * scale, delta) for c in np.float32([0.5, 2.0])
    )
    assert too_small < -0.1
    assert too_large > 0.1
    (_, too_small), (_, too_large) = (
        gradients(loss, scale, c * delta) for c in np.float32([0.25, 4.0])
    )
    assert too_small < -0.01
    assert too_large > 0.01
    for far in np.float32([1e-4, 1e4]):
        assert float(loss(far * scale, delta)) > found.fun + 5.0


# The page.


def test_the_table_of_the_page():
    """Its last two columns, and whether it has each tested loss."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    found = {name: rest[-2:] for name, *rest in cells[1:]}
    expected = {
        name: [
            f"{math.prod(row.shape)}, {row.latent_size}",
            f"{row.beta(row.shape, row.latent_size):g}",
        ]
        for name, row in ROWS.items()
    }
    # Losses with a separate test, which takes beta = 1.
    expected["TensorFlow CVAE"] = ["784, 2", "1"]
    expected["Kingma and Welling, C.2"] = ["560, 2", "1"]
    assert {k: v for k, v in found.items() if k != "---"} == expected


def constant(loss: str) -> float:
    """Nats of an example of 784 elements."""
    zeros = ops.zeros((1, 784))
    return float(likelihood_from_loss(loss).constant(zeros)[0])


GUIDE = ROWS["Subclassing guide"].beta((784,), 32)


@pytest.mark.parametrize(
    ("says", "value"),
    [
        ("{:.1f} nats for a squared error", constant("mse")),
        ("{:.1f} for a Huber loss", constant("huber")),
        ("scale {:.2f}", math.sqrt(0.5)),
        ("beta {:.1f} at variance 1/2", GUIDE),
        ("standard deviation {:.1f}", math.sqrt(GUIDE * 0.5)),
        ("scale {:.2f} and delta", math.sqrt(GUIDE)),
        ("delta {:.2f}", 1 / math.sqrt(GUIDE)),
        ("with 3 channels beta is {:g}", ROWS["keras.io"].beta((8, 8, 3), 2)),
        ("kl_weight of {:.4f}", BETA * 10 / 64**2),
    ],
)
def test_the_numbers_of_the_page(says, value):
    assert says.format(value) in " ".join(PAGE.split())


def test_the_normalised_beta_of_higgins():
    size, latent = 64 * 64, 10
    weight = BETA * latent / size
    assert effective_beta(size, latent, kl_weight=weight) == BETA


def test_the_code_of_the_page():
    first, *blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    assert len(blocks) >= 8
    shared: dict[str, Any] = {}
    exec(first, shared)
    for block in blocks:
        names = dict(shared)
        exec(block, names)
        np.testing.assert_allclose(
            numpy(names["same"]), numpy(names["published"]), rtol=ROUNDINGS
        )
