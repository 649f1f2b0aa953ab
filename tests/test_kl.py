"""KL divergences between all classes of Gaussians, against numpy."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import gradients, numpy

from tfp_vae.distributions import factorized_kl_divergence, kl_divergence
from tfp_vae.substrate import jit, tfd

DIAGONAL = {
    "diag": lambda m, s: tfd.MultivariateNormalDiag(m, s),
    "independent": lambda m, s: tfd.Independent(tfd.Normal(m, s), 1),
    "nested": lambda m, s: tfd.Independent(
        tfd.Independent(tfd.Normal(m, s), 0), 1
    ),
    "tril": lambda m, s: tfd.MultivariateNormalTriL(
        m, s[..., None] * np.eye(s.shape[-1], dtype="float32")
    ),
}


@functools.cache
def compiled(q, p):
    """The divergence between two classes, from means and deviations."""
    return jit(
        lambda mq, sq, mp, sp: kl_divergence(
            DIAGONAL[q](mq, sq), DIAGONAL[p](mp, sp)
        )
    )


def exact(mq, cq, mp, cp):
    """The textbook formula, from covariances in float64."""
    inverse = np.linalg.inv(cp)
    return 0.5 * (
        np.trace(inverse @ cq)
        + (mp - mq) @ inverse @ (mp - mq)
        - len(mq)
        + np.linalg.slogdet(cp)[1]
        - np.linalg.slogdet(cq)[1]
    )


def random_gaussian(rng, k, batch=()):
    loc = rng.normal(size=(*batch, k)).astype("float32")
    scale = rng.uniform(0.3, 2, size=(*batch, k)).astype("float32")
    return loc, scale


@pytest.mark.parametrize(
    ("q", "p"), list(itertools.product(DIAGONAL, repeat=2))
)
@given(k=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_spellings_agree(q, p, k, seed):
    rng = np.random.default_rng(seed)
    (mq, sq), (mp, sp) = random_gaussian(rng, k, (3,)), random_gaussian(rng, k)
    found = numpy(compiled(q, p)(mq, sq, mp, sp))
    expected = [
        exact(
            mq[i].astype("float64"),
            np.diag(sq[i].astype("float64") ** 2),
            mp.astype("float64"),
            np.diag(sp.astype("float64") ** 2),
        )
        for i in range(3)
    ]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@given(k=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_full_covariances(k, seed):
    rng = np.random.default_rng(seed)

    def factor():
        tril = np.tril(rng.normal(size=(k, k)))
        np.fill_diagonal(tril, rng.uniform(0.5, 2, size=k))
        return tril.astype("float32")

    lq, lp = factor(), factor()
    mq, mp = rng.normal(size=(2, k)).astype("float32")
    found = kl_divergence(
        tfd.MultivariateNormalTriL(mq, lq), tfd.MultivariateNormalTriL(mp, lp)
    )
    lq, lp = lq.astype("float64"), lp.astype("float64")
    expected = exact(
        mq.astype("float64"), lq @ lq.T, mp.astype("float64"), lp @ lp.T
    )
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_events_of_any_rank_and_the_factorised_form():
    rng = np.random.default_rng(0)
    m, s = random_gaussian(rng, 6, (5,))
    m, s = m.reshape(5, 3, 2), s.reshape(5, 3, 2)
    q = tfd.Independent(tfd.Normal(m, s), 2)
    p = tfd.Independent(tfd.Normal(np.zeros((3, 2), "float32"), 1.0), 2)
    expected = numpy(tfd.kl_divergence(q, p))  # TFP knows this pair
    np.testing.assert_allclose(numpy(kl_divergence(q, p)), expected, rtol=1e-5)
    each = numpy(factorized_kl_divergence(q, p))
    assert each.shape == (5, 6)
    np.testing.assert_allclose(each.sum(-1), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("q", "p"), list(itertools.product(DIAGONAL, repeat=2))
)
def test_zero_on_itself_with_zero_gradient(q, p):
    m, s = np.float32([0.3, -2.0]), np.float32([1e-3, 30.0])

    def divergence(m, s):
        scale = s if q != "tril" else s * np.ones(1, "float32")
        return kl_divergence(
            tfd.MultivariateNormalDiag(m, scale), DIAGONAL[p](M, S)
        )

    M, S = m, s  # noqa: N806
    assert float(divergence(m, s)) == pytest.approx(0.0, abs=1e-6)
    for gradient in gradients(divergence, m, s):
        # In units of the parameters' own scale.
        np.testing.assert_allclose(gradient * s, 0.0, atol=1e-5)


def test_other_families_go_to_tfp():
    q, p = tfd.Laplace([0.0], 1.0), tfd.Laplace([1.0], 2.0)
    np.testing.assert_array_equal(
        numpy(kl_divergence(q, p)), numpy(tfd.kl_divergence(q, p))
    )
    with pytest.raises(NotImplementedError):
        kl_divergence(tfd.StudentT(3.0, 0.0, 1.0), tfd.Normal(0.0, 1.0))
    with pytest.raises(NotImplementedError, match="diagonal covariance"):
        factorized_kl_divergence(q, p)


def test_event_shapes_must_agree():
    q = tfd.MultivariateNormalDiag(
        np.zeros(2, "float32"), np.ones(2, "float32")
    )
    p = tfd.MultivariateNormalDiag(
        np.zeros(3, "float32"), np.ones(3, "float32")
    )
    for function in (kl_divergence, factorized_kl_divergence):
        with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
            function(q, p)
