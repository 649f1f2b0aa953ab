"""The contract of TFP for every family on the real line, one row per family."""

from functools import partial

import keras
import numpy as np
import pytest
from keras import ops
from support import BACKEND, fast, float64, numpy, sample

from tfp_vae.distributions import (
    AsymmetricLaplace,
    Barron,
    Gibbs,
    Huber,
    HyperbolicSecant,
)
from tfp_vae.substrate import jit, tfd, tfp_seed


def charbonnier(r):
    return ops.sqrt(1.0 + r * r)


# Its constructor from loc and scale, and a value of each shape parameter.
FAMILIES = {
    "Huber": (Huber, {"delta": 1.345}),
    "HyperbolicSecant": (HyperbolicSecant, {}),
    "AsymmetricLaplace": (AsymmetricLaplace, {"quantile_level": 0.75}),
    "Barron": (Barron, {"alpha": 1.5}),
    "Gibbs": (partial(Gibbs, charbonnier), {}),
}
every_family = pytest.mark.parametrize(
    ("family", "shapes"), FAMILIES.values(), ids=FAMILIES
)
STATISTICS = ("mean", "mode", "variance", "stddev", "entropy")


@every_family
def test_is_a_full_tfp_citizen(family, shapes):
    batch = family([[0.0], [1.0]], [1.0, 2.0, 3.0], **shapes)
    assert tuple(batch.batch_shape) == (2, 3)
    assert tuple(batch.event_shape) == ()
    assert tuple(batch.sample((4, 5), seed=tfp_seed(3)).shape) == (4, 5, 2, 3)
    assert tuple(batch[:, :2].batch_shape) == (2, 2)
    assert tuple(batch[0, ..., None].batch_shape) == (3, 1)
    assert float(batch.copy(scale=7.0).scale) == 7.0
    for statistic in STATISTICS:
        assert getattr(batch, statistic)().shape == (2, 3), statistic
    independent = tfd.Independent(batch, 1)
    y = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(
        numpy(independent.log_prob(y)), numpy(batch.log_prob(y)).sum(-1), 1e-6
    )
    properties = batch.parameter_properties()
    assert set(properties) == {"loc", "scale", *shapes}
    for name, value in properties.items():
        if name != "loc":
            bijector = value.default_constraining_bijector_fn()
            assert 0 < float(bijector(np.float32(-3.0))) < 1


@every_family
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_is_kept(family, shapes, dtype):
    y = np.float32([-3.0, 0.0, 0.5, 20.0])
    methods = ("log_prob", "prob", "cdf", "log_cdf", "survival_function")

    # One by one, each would be compiled separately on JAX.
    @fast
    def everything(seed):
        parameters = {"loc": 0.0, "scale": 1.0, **shapes}
        wanted = family(
            **{k: ops.cast(v, dtype) for k, v in parameters.items()}
        )
        return {
            "sample": wanted.sample(4, seed=seed),
            "quantile": wanted.quantile(ops.cast([0.1, 0.9], dtype)),
            **{
                name: getattr(wanted, name)(ops.cast(y, dtype))
                for name in methods
            },
            **{name: getattr(wanted, name)() for name in STATISTICS},
        }

    @fast
    def reference(y):
        narrow = family(0.0, **shapes)
        return {name: getattr(narrow, name)(y) for name in methods}

    with float64():
        results = everything(tfp_seed(3))
    expected = reference(ops.convert_to_tensor(y))
    # A few roundings of the dtype.
    tolerance = {"float16": 5e-3, "bfloat16": 4e-2}.get(dtype, 1e-5)
    for name, value in results.items():
        assert keras.backend.standardize_dtype(value.dtype) == dtype, name
        assert np.isfinite(numpy(ops.cast(value, "float32"))).all(), name
    for method in methods:
        np.testing.assert_allclose(
            numpy(ops.cast(results[method], "float32")),
            numpy(expected[method]),
            rtol=tolerance,
            atol=1e-6,
        )


@every_family
@pytest.mark.parametrize("method", ["log_prob", "log_cdf", "quantile"])
def test_compiled_equals_eager(family, shapes, method):
    value = np.array([0.1, 0.5, 0.8], np.float32)
    arguments = [
        ops.convert_to_tensor(v)
        for v in (value, 0.3 * value, value, *[value] * len(shapes))
    ]

    def function(value, *parameters):
        return getattr(family(*parameters), method)(value)

    compiled = [jit(function)]
    if BACKEND == "tensorflow":
        compiled.append(jit(function, jit_compile=True))
    for other in compiled:
        np.testing.assert_allclose(
            numpy(other(*arguments)),
            numpy(function(*arguments)),
            rtol=1e-6,
            atol=1e-6,
        )


@every_family
def test_validate_args(family, shapes):
    for name in ("scale", *shapes):
        for value in (-0.5, -1.0):
            with pytest.raises(Exception, match=f"Argument `{name}` must be"):
                numpy(
                    family(0.0, **{name: value}, validate_args=True).sample(
                        seed=tfp_seed(3)
                    )
                )


@every_family
def test_draws_repeat_with_the_seed(family, shapes):
    standard = family(0.0, **shapes)
    np.testing.assert_array_equal(sample(standard, 5), sample(standard, 5))
    assert (sample(standard, 5, seed=1) != sample(standard, 5, seed=2)).all()
