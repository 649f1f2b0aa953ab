"""Bernoulli's log density: one softplus, as exact as with two."""

import keras
import mpmath
import numpy as np
import pytest
from keras import ops
from support import assert_close, float64, gradients, numpy, sample

from tfp_vae.distributions import Bernoulli
from tfp_vae.distributions.softplus import softplus
from tfp_vae.substrate import jit, tfd

LOGITS = np.array(
    [-1e30, -200.0, -88.0, -20.0, -1.0, -1e-3, 0.0, 1e-8, 0.5, 30.0, 1e4, 1e30]
)
TOLERANCES = [("float32", 1e-6), ("float64", 1e-14)]


def exact_softplus(value):
    return mpmath.log1p(mpmath.exp(mpmath.mpf(float(value))))


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_log_density_and_its_gradient_agree_with_mpmath(dtype, tolerance):
    logits = LOGITS.astype(dtype)
    with float64():
        for x in (0.0, 1.0):
            exact = [-exact_softplus(v if x == 0 else -v) for v in logits]
            event = np.full_like(logits, x)
            # Relative to itself at any size, since nothing cancels.
            np.testing.assert_allclose(
                numpy(
                    Bernoulli(
                        ops.convert_to_tensor(logits, dtype), dtype=dtype
                    ).log_prob(event)
                ),
                [float(v) for v in exact],
                rtol=4 * tolerance,
                atol=float(np.finfo(dtype).tiny),
            )
        for x in (0.0, 0.3, 1.0):
            event = np.full_like(logits, x)
            (slope,) = gradients(
                lambda v, y=event: Bernoulli(v, dtype=dtype).log_prob(y), logits
            )
            exact = [
                event[0] - 1 / (1 + mpmath.exp(-mpmath.mpf(float(v))))
                for v in logits
            ]
            assert_close(slope, exact, 4 * tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_softplus_and_its_gradient_agree_with_mpmath(dtype, tolerance):
    x = LOGITS.astype(dtype)
    with float64():
        np.testing.assert_allclose(
            numpy(softplus(ops.convert_to_tensor(x))),
            [float(exact_softplus(v)) for v in x],
            rtol=4 * tolerance,
            atol=float(np.finfo(dtype).tiny),
        )
        (slope,) = gradients(softplus, x)
        assert_close(
            slope,
            [1 / (1 + mpmath.exp(-mpmath.mpf(float(v)))) for v in x],
            4 * tolerance,
        )


def test_is_tfps_bernoulli_in_all_else():
    logits = np.array([[-2.0, 0.0, 0.5], [1.0, 3.0, -0.1]], np.float32)
    probs = 1 / (1 + np.exp(-logits))
    for arguments in ({"logits": logits}, {"probs": probs}):
        ours = Bernoulli(**arguments, dtype="float32")
        theirs = tfd.Bernoulli(**arguments, dtype="float32")
        assert isinstance(ours.copy(validate_args=True), Bernoulli)
        assert isinstance(ours[0], Bernoulli)
        assert keras.backend.standardize_dtype(ours.dtype) == "float32"
        for name in ("mean", "variance", "entropy", "mode"):
            np.testing.assert_array_equal(
                numpy(getattr(ours, name)()), numpy(getattr(theirs, name)())
            )
        np.testing.assert_array_equal(sample(ours, 5), sample(theirs, 5))
        x = np.float32([[0, 1, 0], [1, 1, 0]])
        independent = tfd.Independent(ours, 1)
        for distribution in (ours, independent):
            compiled = jit(lambda d, v: d.log_prob(v))(distribution, x)
            expected = theirs.log_prob(x)
            if distribution is independent:
                expected = ops.sum(expected, axis=-1)
            np.testing.assert_allclose(
                numpy(compiled), numpy(expected), rtol=1e-5
            )
        np.testing.assert_allclose(
            numpy(tfd.kl_divergence(ours, tfd.Bernoulli(logits=0.3))),
            numpy(tfd.kl_divergence(theirs, tfd.Bernoulli(logits=0.3))),
            rtol=1e-5,
        )


def test_integers_are_events_too():
    x = np.array([0, 1, 1], np.int32)
    np.testing.assert_allclose(
        numpy(Bernoulli(np.float32(0.7)).log_prob(x)),
        numpy(tfd.Bernoulli(np.float32(0.7)).log_prob(x)),
        rtol=1e-6,
    )


def test_validate_args():
    with pytest.raises(Exception, match="less than or equal to"):
        numpy(Bernoulli(0.0, validate_args=True).log_prob(2.0))
    with pytest.raises(ValueError, match="not both"):
        Bernoulli(0.0, 0.5)
