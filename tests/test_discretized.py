"""Whole numbers of many levels: exact masses in the tails, layers, training."""

import functools

import keras
import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from support import assert_close, float64, gradients, numpy, sample

from tfp_vae import VAE, layers
from tfp_vae.distributions.discretized import DiscretizedLogistic
from tfp_vae.layers.heads import discretized
from tfp_vae.substrate import is_discrete, jit, tfd
from tfp_vae.testing import check_distribution

LEVELS = np.arange(256.0)
# A dozen roundings.
TOLERANCES = [("float32", 1e-6), ("float64", 2e-15)]

_log_prob = jit(
    lambda k, loc, scale: DiscretizedLogistic(loc, scale).log_prob(k)
)


def exact(k, loc, scale):
    """log mass and its derivatives in loc and scale, with mpmath.

    Both edges of a bin in the upper tail are mirrored, so that nothing cancels
    there; at an end of the range one of them is infinite.
    """
    k, loc, scale = (mpmath.mpf(float(v)) for v in (k, loc, scale))
    a = (k - 0.5 - loc) / scale if k > 0 else -mpmath.inf
    b = (k + 0.5 - loc) / scale if k < 255 else mpmath.inf
    sign = 1
    if a > 0:
        a, b, sign = -b, -a, -1

    def cdf(x):
        return 1 / (1 + mpmath.exp(-x))

    def density(x):
        return mpmath.exp(-abs(x)) / (1 + mpmath.exp(-abs(x))) ** 2

    def moment(x):
        return mpmath.mpf(0) if mpmath.isinf(x) else x * density(x)

    mass = cdf(b) - cdf(a)
    return (
        mpmath.log(mass),
        sign * (density(a) - density(b)) / (scale * mass),
        (moment(a) - moment(b)) / (scale * mass),
    )


def pmf(loc, scale):
    """`[256, *batch]`, with SciPy in float64."""
    loc, scale = np.broadcast_arrays(np.float64(loc), np.float64(scale))
    k = LEVELS.reshape(-1, *[1] * loc.ndim)
    frozen = scipy.stats.logistic(loc, scale)
    # From the side where the numbers are small.
    mass = np.where(
        k < loc,
        frozen.cdf(k + 0.5) - frozen.cdf(k - 0.5),
        frozen.sf(k - 0.5) - frozen.sf(k + 0.5),
    )
    mass[0] = frozen.cdf(0.5)
    mass[-1] = frozen.sf(254.5)
    return mass


CASES = np.array(
    [
        (k, k + distance * scale, scale)
        for k in (0, 1, 100, 254, 255)
        for scale in (1e-6, 1e-3, 0.1, 1.0, 30.0, 1e3, 1e6)
        for distance in (-1e4, -30.0, -1.0, 0.0, 1e-3, 0.5, 7.0, 200.0, 1e4)
    ]
)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_log_mass_and_its_gradients_agree_with_mpmath(dtype, tolerance):
    k, loc, scale = CASES.T.astype(dtype)
    expected = [exact(*case) for case in zip(k, loc, scale, strict=True)]
    with float64():
        found = numpy(_log_prob(k, loc, scale))
        assert found.dtype == dtype
        assert_close(found, [e[0] for e in expected], tolerance)
        slopes = gradients(
            lambda loc, scale: _log_prob(
                ops.convert_to_tensor(k, dtype), loc, scale
            ),
            loc,
            scale,
        )
    for i, slope in enumerate(slopes, 1):
        slope = slope.astype("float64")
        assert np.isfinite(slope).all()
        # In units of 1 / scale it is of the order of the distance; the edges
        # themselves are rounded, which matters at 1e4 scales.
        reach = (1.0 + abs(k - loc) / scale).astype("float64")
        error = scale * abs(slope - [float(e[i]) for e in expected]) / reach
        assert error.max() < 8 * tolerance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_everything_is_finite_everywhere(dtype):
    scale = 10.0 ** np.arange(-6, 7)
    k, loc, scale = np.meshgrid(
        [0.0, 7.0, 255.0], [-1e30, -1e8, 300, 1e8], scale
    )
    k, loc, scale = (v.astype(dtype) for v in (k, loc, scale))
    with float64():
        parts = [
            numpy(_log_prob(k, loc, scale)),
            *gradients(
                lambda *a: _log_prob(ops.convert_to_tensor(k), *a), loc, scale
            ),
        ]
    if dtype == "float32":
        # The log mass itself overflows there.
        parts = [part[np.abs(loc) < 1e30] for part in parts]
    assert all(np.isfinite(part).all() for part in parts)
    assert (parts[0] <= 0).all()


@given(
    loc=st.floats(-1000, 1000),
    log_scale=st.floats(-7, 9),
)
def test_masses_sum_to_one(loc, log_scale):
    loc, scale = np.float32(loc), np.float32(np.exp(log_scale))
    log_prob = numpy(_log_prob(np.float32(LEVELS), loc, scale))
    # Each has an error of a rounding of its edges, in scales.
    reach = 1.0 + np.abs(LEVELS - loc).min() / scale
    assert np.exp(np.float64(log_prob)).sum() == pytest.approx(
        1.0, rel=1e-6 * reach
    )


def test_a_second_opinion_from_tfp():
    """In the middle, where differences of cdfs are still accurate."""
    loc, scale = np.float32([80.3, 120.0, 200.7]), np.float32([3.0, 20.0, 60.0])
    ours = DiscretizedLogistic(loc, scale)
    # TFP's bins end at a whole number.
    theirs = tfd.QuantizedDistribution(
        tfd.Logistic(loc - 0.5, scale), low=0.0, high=255.0
    )
    k = np.float32([[0, 0, 0], [75, 100, 150], [90, 130, 255]])[:, :]
    for name in ("log_prob", "cdf", "survival_function"):
        found, expected = (numpy(getattr(d, name)(k)) for d in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


LOCS = np.float32([-300.0, -3.0, 0.4, 5.0, 127.2, 250.0, 260.0, 128.5])
SCALES = np.float32([20.0, 8.0, 0.05, 1.5, 3.0, 20.0, 0.2, 1e3])


def test_statistics_against_sums_with_scipy():
    distribution = DiscretizedLogistic(LOCS, SCALES)
    p, k = pmf(LOCS, SCALES), LEVELS[:, None]
    mean = (p * k).sum(0)
    for name, expected in {
        "mean": mean,
        "variance": (p * (k - mean) ** 2).sum(0),
        "stddev": np.sqrt((p * (k - mean) ** 2).sum(0)),
        "entropy": scipy.special.entr(p).sum(0),
    }.items():
        found = jit(lambda d, name=name: getattr(d, name)())(distribution)
        # A sum of 256 terms of one sign.
        np.testing.assert_allclose(
            numpy(found), expected, rtol=1e-5, atol=1e-5, err_msg=name
        )
    mode = np.int64(numpy(distribution.mode()))
    at = np.take_along_axis(p, mode[None], 0)[0]
    np.testing.assert_allclose(at, p.max(0), rtol=1e-6)
    assert mode[0] == 0
    assert mode[5] == 255  # its tail has more mass than the bin about loc


def test_distribution_functions():
    distribution = DiscretizedLogistic(LOCS, SCALES)
    below = np.cumsum(pmf(LOCS, SCALES), axis=0)
    at = np.float32([-1.0, 0.0, 3.7, 100.0, 255.0, 300.0])[:, None]
    expected = np.where(
        at < 0, 0.0, below[np.clip(np.floor(at[:, 0]), 0, 255).astype(int)]
    )
    for name, right in {
        "cdf": expected,
        "survival_function": 1 - expected,
    }.items():
        np.testing.assert_allclose(
            numpy(getattr(distribution, name)(at)), right, atol=1e-6
        )
        log = numpy(getattr(distribution, f"log_{name}")(at))
        np.testing.assert_allclose(np.exp(log), right, atol=1e-6)
    # Far out in the tails, where 1 - cdf is 0.
    narrow = DiscretizedLogistic(100.0, 0.5)
    assert numpy(narrow.log_survival_function(200.0)) == pytest.approx(-201)
    assert numpy(narrow.log_cdf(20.0)) == pytest.approx(-159)
    for p in (0.01, 0.5, 0.99):
        quantile = np.int64(numpy(distribution.quantile(np.float32(p))))
        assert (quantile == (below < p - 1e-6).sum(0)).all()


def test_draws():
    distribution = DiscretizedLogistic(LOCS, SCALES)
    draws = sample(distribution, 20_000)
    assert draws.dtype == np.float32
    assert (draws == draws.round()).all()
    below = np.cumsum(pmf(LOCS, SCALES), axis=0)
    found = np.stack([(draws <= k).mean(0) for k in LEVELS])
    # Dvoretzky, Kiefer, Wolfowitz: exceeded once in 1e9 distributions.
    assert np.abs(found - below).max() < np.sqrt(np.log(2e9) / 4e4)
    # No draw is wrong because a uniform number is 0: of 2e6, some are 0.
    narrow = sample(DiscretizedLogistic(np.float32(100.0), 0.5), 2_000_000)
    assert np.abs(narrow - 100).max() < 25
    assert distribution.reparameterization_type == tfd.NOT_REPARAMETERIZED


def test_is_a_discrete_distribution_of_tfp():
    distribution = DiscretizedLogistic(LOCS, SCALES, low=-8, high=300)
    assert is_discrete(distribution)
    assert is_discrete(tfd.Independent(distribution, 1))
    assert tuple(distribution[2:4].batch_shape) == (2,)
    assert (distribution.low, distribution.high) == (-8, 300)
    assert isinstance(distribution.copy(low=0), DiscretizedLogistic)
    k = np.full(8, 17, np.uint8)
    compiled = jit(lambda d, v: d.log_prob(v))(distribution, k)
    np.testing.assert_allclose(
        numpy(compiled), numpy(distribution.log_prob(np.float32(k))), rtol=1e-6
    )
    for beyond in (-9.0, 301.0):
        assert np.isneginf(numpy(distribution.log_prob(beyond))).all()
    with float64():
        double = DiscretizedLogistic(np.float64(LOCS), np.float64(SCALES))
        for method in ("mean", "variance", "entropy", "mode"):
            assert numpy(getattr(double, method)()).dtype == np.float64
        assert sample(double, 2).dtype == np.float64


@pytest.mark.parametrize(
    ("value", "message"),
    [(256.0, "above high=255"), (-1.0, "below low=0"), (0.5, "whole numbers")],
)
def test_validate_args(value, message):
    distribution = DiscretizedLogistic(LOCS, SCALES, validate_args=True)
    numpy(distribution.log_prob(np.float32(255.0)))
    with pytest.raises(Exception, match=message):
        numpy(distribution.log_prob(value))
    with pytest.raises(Exception, match="`scale` must be positive"):
        DiscretizedLogistic(0.0, -1.0, validate_args=True)


@pytest.mark.parametrize(
    ("low", "high"), [(3, 3), (5, 2), (0, 2.5), (-np.inf, 4), (0, np.nan)]
)
def test_ends_are_checked(low, high):
    with pytest.raises(ValueError, match=r"whole numbers.*Received: low="):
        DiscretizedLogistic(0.0, 1.0, low, high)
    with pytest.raises(ValueError, match=r"whole numbers.*Received: low="):
        discretized.DiscretizedLogistic(3, low=low, high=high)


def numbers(low, high):
    return st.integers(10 * low, 10 * high).map(lambda n: n / 10)


def test_passes_the_kit():
    check_distribution(
        DiscretizedLogistic,
        parameters={"loc": numbers(90, 160), "scale": numbers(1, 9)},
        support=(0, 255),
        max_examples=max(1, settings.default.max_examples // 100),
    )


# The layers.


def by_hand(params, components, low=0, high=255, spread=True):
    """The documented parameterisation: logits, loc and scale of the elements.

    Args:
        params: `[B, k, elements, components]` in float64.
    """
    half = (high - low) / 2
    *logits, loc, raw = np.moveaxis(params, 1, 0)
    if spread:
        c = np.arange(components)
        loc = loc + (2 * c + 1 - components) / components
    return (
        scipy.special.softmax(logits[0], -1) if logits else 1.0,
        (low + high) / 2 + half * loc,
        half * np.logaddexp(0, raw) + 0.1,
    )


def expected_log_prob(params, x):
    """The log mass of mixtures, from SciPy's masses; `x` `[B, elements]`."""
    weights, loc, scale = by_hand(params, params.shape[-1])
    p = (weights * pmf(loc, scale)).sum(-1)
    return np.log(np.take_along_axis(p, np.int64(x)[None], 0)[0]).sum(-1)


@functools.cache
def compiled(event_shape, components, dtype):
    """The layer, a mixture if there are components, and its log density."""
    arguments = {"event_shape": event_shape, "dtype": dtype}
    if components:
        layer = discretized.DiscretizedLogisticMixture(
            num_components=components, **arguments
        )
    else:
        layer = discretized.DiscretizedLogistic(**arguments)
    return layer, jit(lambda params, x: layer(params).log_prob(x))


shapes = st.lists(st.integers(1, 3), min_size=0, max_size=3).map(tuple)


@given(
    event_shape=shapes,
    components=st.none() | st.integers(1, 4),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_layers_against_scipy(event_shape, components, dtype, seed):
    rng = np.random.default_rng(seed)
    cls, arguments, kinds = discretized.DiscretizedLogistic, (), 2
    if components:
        cls = discretized.DiscretizedLogisticMixture
        arguments, kinds = (components,), 3
    size = int(np.prod(event_shape))
    whole = rng.normal(size=(2, kinds, size, components or 1))
    x = rng.integers(256, size=(2, *event_shape))
    expected = expected_log_prob(whole.astype("float32"), x.reshape(2, -1))
    params = whole.astype("float32").astype(dtype).reshape(2, -1)
    assert params.shape[1] == cls.params_size(event_shape, *arguments)
    layouts = [params]
    if len(event_shape) > 1:
        blocks = params.reshape(2, kinds, *event_shape[:-1], -1)
        layouts.append(np.concatenate(list(np.moveaxis(blocks, 1, 0)), -1))
    with float64():
        layer, log_prob = compiled(event_shape, components, dtype)
        for layout in layouts:
            assert layer.compute_output_shape(layout.shape) == x.shape
            found = numpy(log_prob(layout, x.astype(dtype)))
            assert found.dtype == dtype
            # Scales are 12 levels and more: SciPy's differences are accurate.
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-5)


@pytest.mark.parametrize("mode", ["learned", "shared", 3.0])
@pytest.mark.parametrize("components", [None, 4])
def test_scale_modes_levels_and_configs(mode, components):
    cls, arguments = discretized.DiscretizedLogistic, {}
    if components:
        cls = discretized.DiscretizedLogisticMixture
        arguments = {"num_components": components}
    layer = cls((2, 3), scale=mode, low=-4, high=11, **arguments)
    size = cls.params_size((2, 3), scale=mode, **arguments)
    kinds = 1 + (mode == "learned") + bool(components)
    assert size == kinds * 6 * (components or 1)
    distribution = layer(np.zeros((5, size), "float32"))
    assert tuple(distribution.batch_shape) == (5,)
    assert tuple(distribution.event_shape) == (2, 3)
    inside = distribution.distribution
    inside = getattr(inside, "components_distribution", inside)
    expected = {"learned": 7.5 * np.log(2) + 0.1, "shared": 7.6, 3.0: 3.0}[mode]
    np.testing.assert_allclose(numpy(inside.scale), expected, rtol=1e-6)
    middles = 3.5 + 7.5 * np.float32([-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(
        numpy(inside.loc),
        np.broadcast_to(middles if components else 3.5, inside.loc.shape),
    )
    assert (inside.low, inside.high) == (-4, 11)
    assert len(layer.trainable_weights) == (mode == "shared")
    rebuilt = keras.layers.deserialize(keras.layers.serialize(layer))
    assert rebuilt.get_config() == layer.get_config()
    with pytest.raises(ValueError, match=f"params_size={size}.*Received: 7"):
        layer(np.zeros((5, 7), "float32"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": "optimal"}, "'learned', 'shared'"),
        ({"scale": -1.0}, "positive number"),
        ({"min_scale": 0.0}, "min_scale"),
        ({"num_components": 0}, "whole number of components"),
        ({"num_components": 2.5}, "whole number of components"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        discretized.DiscretizedLogisticMixture(
            3, **{"num_components": 2, **arguments}
        )


def test_a_mixture_as_a_distribution():
    params = np.random.default_rng(0).normal(size=(1, 1, 3 * 5))
    layer = discretized.DiscretizedLogisticMixture(1, 5)
    distribution = layer(np.float32(params[0]))
    weights, loc, scale = by_hand(params.reshape(1, 3, 1, 5), 5)
    p = (weights * pmf(loc, scale)).sum(-1)[:, 0, 0]
    mean = (p * LEVELS).sum()
    variance = (p * (LEVELS - mean) ** 2).sum()
    assert numpy(distribution.mean()).item() == pytest.approx(mean, rel=1e-5)
    assert numpy(distribution.variance()).item() == pytest.approx(
        variance, rel=1e-4
    )
    draws = sample(distribution, 20_000)
    assert (draws == draws.round()).all()
    found = np.array([(draws <= k).mean() for k in LEVELS])
    bound = np.sqrt(np.log(2e9) / 4e4)
    assert np.abs(found - np.cumsum(p)).max() < bound


def images(n, dtype):
    """Disks in 6 x 6 pixels on a dark ground, with noise, some saturated."""
    rng = np.random.default_rng(0)
    place = rng.uniform(1, 5, size=(n, 2, 1, 1))
    y, x = np.mgrid[:6, :6]
    r = np.hypot(y - place[:, 0], x - place[:, 1])
    grey = 300 / (1 + np.exp(4 * (r - 1.5))) + rng.normal(0, 6, r.shape)
    return np.clip(grey.round(), 0, 255)[..., None].astype(dtype)


def tiny_vae(layer, channels):
    encoder = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Rescaling(1 / 127.5, -1.0),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(layers.MultivariateNormalDiag.params_size(2)),
            layers.MultivariateNormalDiag(2),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(36 * 4, "relu"),
            keras.layers.Reshape((6, 6, 4)),
            keras.layers.Conv2D(channels, 1),
            layer,
        ]
    )
    model = VAE(encoder, decoder, seed=0)
    model.compile(keras.optimizers.Adam(0.01))
    return model


@pytest.mark.parametrize(
    ("make", "channels", "dtype"),
    [
        (lambda: discretized.DiscretizedLogistic((6, 6, 1)), 2, "uint8"),
        (
            lambda: discretized.DiscretizedLogisticMixture((6, 6, 1), 3),
            9,
            "float32",
        ),
    ],
    ids=["logistic", "mixture"],
)
def test_trains_on_pixels(make, channels, dtype, tmp_path):
    x = images(96, dtype)
    model = tiny_vae(make(), channels)
    history = model.fit(x, batch_size=32, epochs=12, verbose=0).history
    # A uniform guess is log 256 = 5.5 nats per pixel; training starts there.
    guess = 36 * np.log(256)
    assert history["loss"][0] < 1.2 * guess
    assert history["loss"][-1] < 0.85 * guess
    found = model.predict(x[:40], verbose=0)
    assert found["mean"].shape == (40, 6, 6, 1)
    assert ((found["mean"] >= 0) & (found["mean"] <= 255)).all()
    assert np.isfinite(found["log_likelihood"]).all()
    np.testing.assert_allclose(
        numpy(model.reconstruct(np.float32(x[:40]))), found["mean"], rtol=1e-4
    )
    draws = numpy(model.sample(8, seed=0))
    assert draws.min() >= 0
    assert draws.max() <= 255
    assert (draws == draws.round()).all()
    marginal = model.marginal_log_likelihood(x[:8], num_samples=16, seed=0)
    assert (marginal.log_likelihood < 0).all()
    before = model.evaluate(x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.evaluate(x, verbose=0) == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize(
    ("value", "make", "channels"),
    [
        (256.0, lambda: discretized.DiscretizedLogistic((6, 6, 1)), 2),
        (
            -1.0,
            lambda: discretized.DiscretizedLogisticMixture((6, 6, 1), 2),
            6,
        ),
    ],
    ids=["logistic", "mixture"],
)
def test_pixels_outside_the_range_are_refused(value, make, channels):
    x = images(16, "float32")
    x[11, 2, 3] = value
    with pytest.raises(ValueError, match=rf"support.*{value}.*(above|below)"):
        tiny_vae(make(), channels).fit(x, verbose=0)


def test_rescaled_pixels_are_warned_of():
    model = tiny_vae(discretized.DiscretizedLogistic((6, 6, 1)), 2)
    with pytest.warns(UserWarning, match="whole numbers as outcomes"):
        model.fit(images(16, "float32") / 255, verbose=0)
