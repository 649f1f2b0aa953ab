"""The other objectives against numpy, tfp.vi and a known model."""

import functools

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from keras import ops
from support import float64, gradients, numpy

from tfp_vae import ELBO, VAE, layers
from tfp_vae.objectives import (
    DIPVAE,
    IWAE,
    MMD,
    BetaTCVAE,
    InfoVAE,
    LinearWarmup,
    RenyiBound,
    maximum_mean_discrepancy,
)
from tfp_vae.substrate import samplers, tfd, tfp, tfp_seed

B, D, L = 6, 4, 2
RNG = np.random.default_rng(0)
W = RNG.normal(size=(L, D))
MU = RNG.normal(size=D)
NOISE = 0.8
X = RNG.normal(size=(B, D)) * 1.5


def evidence():
    return scipy.stats.multivariate_normal.logpdf(
        X, MU, W.T @ W + NOISE**2 * np.eye(D)
    )


def true_posterior():
    """z given x in the linear-Gaussian model: means and a Cholesky factor."""
    covariance = np.linalg.inv(np.eye(L) + W @ W.T / NOISE**2)
    loc = (X - MU) @ W.T @ covariance / NOISE**2
    return loc, np.linalg.cholesky(covariance)


def likelihood(z, w=W):
    return tfd.Independent(
        tfd.Normal(ops.matmul(z, ops.convert_to_tensor(w)) + MU, NOISE), 1
    )


def diagonal(loc, scale):
    return tfd.MultivariateNormalDiag(loc, scale)


def parameters(seed=1):
    """Parameters of posteriors near the true ones."""
    rng = np.random.default_rng(seed)
    loc, root = true_posterior()
    scale = np.sqrt((root**2).sum(1)) * rng.uniform(0.7, 1.5, (B, L))
    return loc + 0.3 * rng.normal(size=(B, L)), scale


def terms_at(objective, loc, scale, samples, seed=0, w=W):
    """The terms with a posterior of these parameters, in float64."""
    q = diagonal(loc, scale)
    z = q.sample(samples, seed=tfp_seed(seed))
    z = objective.latents(z)
    return objective(
        ops.convert_to_tensor(X), posterior=q, likelihood=likelihood(z, w), z=z
    )


def numbers(seed=2, samples=7):
    """Samples of z and the exact logarithms of all densities at them."""
    rng = np.random.default_rng(seed)
    loc, scale = parameters()
    z = loc + scale * rng.normal(size=(samples, B, L))
    pairs = scipy.stats.norm.logpdf(z[:, :, None], loc, scale)
    return {
        "loc": loc,
        "scale": scale,
        "z": z,
        "log_likelihood": scipy.stats.norm.logpdf(X, z @ W + MU, NOISE).sum(-1),
        "log_prior": scipy.stats.norm.logpdf(z).sum(-1),
        "log_q": scipy.stats.norm.logpdf(z, loc, scale).sum(-1),
        "pairs": pairs,
        "kl": ((scale**2 + loc**2 - 1) / 2 - np.log(scale)).sum(-1),
    }


def found(objective, v):
    with float64():
        z = objective.latents(ops.convert_to_tensor(v["z"]))
        terms = objective(
            ops.convert_to_tensor(X),
            posterior=diagonal(v["loc"], v["scale"]),
            likelihood=likelihood(z),
            z=z,
        )
        reports = {k: float(numpy(r)) for k, r in terms.reports.items()}
        return [numpy(t) for t in terms[:3]], reports


def double(cls, *args, **kwargs):
    return cls(*args, **kwargs, dtype="float64")


class TestBounds:
    def test_order_on_a_linear_gaussian_model(self):
        """ELBO <= IWAE-5 <= IWAE-50 <= log p(x), with clear gaps."""
        loc, scale = parameters()
        means, errors = [], []
        for samples, repeats in ((1, 4000), (5, 2000), (50, 1000)):
            with float64():
                bounds = _bounds(samples, repeats, loc, scale)
            means.append(bounds.mean(0))
            errors.append(bounds.std(0) / np.sqrt(repeats))
        means.append(evidence())
        errors.append(np.zeros(B))
        for i in range(3):
            # Five standard errors of the difference.
            slack = 5 * np.hypot(errors[i], errors[i + 1])
            assert (means[i] <= means[i + 1] + slack).all()
            assert means[i].mean() < means[i + 1].mean()

    @pytest.mark.parametrize(
        "objective",
        [
            functools.partial(ELBO, kl="monte_carlo", num_samples=5),
            functools.partial(ELBO, gradient="stl", num_samples=5),
            functools.partial(IWAE, 5),
            functools.partial(IWAE, 5, gradient="dreg"),
            functools.partial(RenyiBound, 0.5, 5),
            functools.partial(RenyiBound, -3.0, 5),
        ],
    )
    def test_tight_at_the_true_posterior(self, objective):
        loc, root = true_posterior()
        with float64():
            q = tfd.MultivariateNormalTriL(loc, np.tile(root, (B, 1, 1)))
            made = double(objective)
            z = made.latents(q.sample(5, seed=tfp_seed(0)))
            terms = made(
                ops.convert_to_tensor(X),
                posterior=q,
                likelihood=likelihood(z),
                z=z,
            )
            bound = numpy(terms.objective)
        # All weights are the evidence itself.
        np.testing.assert_allclose(bound, evidence(), atol=1e-10)

    @pytest.mark.parametrize("samples", [1, 7])
    def test_iwae_against_numpy(self, samples):
        v = numbers(samples=samples)
        (log_likelihood, kl, objective), _ = found(double(IWAE, samples), v)
        weights = v["log_likelihood"] + v["log_prior"] - v["log_q"]
        np.testing.assert_allclose(
            objective,
            scipy.special.logsumexp(weights, 0) - np.log(samples),
            rtol=1e-12,
        )
        np.testing.assert_allclose(
            log_likelihood, v["log_likelihood"].mean(0), rtol=1e-12
        )
        np.testing.assert_allclose(kl, v["kl"], rtol=1e-12)

    @pytest.mark.parametrize("alpha", [-500.0, -1.0, 0.0, 0.5, 2.0, 500.0])
    def test_renyi_against_numpy(self, alpha):
        v = numbers()
        objective = found(double(RenyiBound, alpha, 7), v)[0][2]
        weights = v["log_likelihood"] + v["log_prior"] - v["log_q"]
        power = 1 - alpha
        expected = scipy.special.logsumexp(power * weights, 0) - np.log(7)
        np.testing.assert_allclose(objective, expected / power, rtol=1e-10)
        if abs(alpha) == 500:
            # The largest, or smallest, except for log(7) / 500.
            extreme = weights.max(0) if alpha < 0 else weights.min(0)
            np.testing.assert_allclose(objective, extreme, atol=0.01)

    @pytest.mark.parametrize("alpha", [0.0, 0.5, -2.0])
    def test_a_weight_of_zero(self, alpha):
        """For example, if data are impossible given one draw of z."""
        impossible = tfd.Independent(
            tfd.Uniform(np.float32([[[0.0]], [[5.0]]]), 10.0), 1
        )
        q = tfd.MultivariateNormalDiag(np.zeros((1, 1), "f"), np.ones(1, "f"))
        bound = RenyiBound(alpha, 2)(
            np.float32([[1.0]]),
            posterior=q,
            likelihood=impossible,
            z=np.zeros((2, 1, 1), "f"),
        ).objective
        # Posterior and prior are the same; the other weight is 1 / 10.
        power = 1 - alpha
        expected = (power * np.log(0.1) - np.log(2)) / power
        assert float(numpy(bound)[0]) == pytest.approx(expected, rel=1e-5)

    def test_renyi_goes_smoothly_through_the_elbo(self):
        v = numbers()
        weights = v["log_likelihood"] + v["log_prior"] - v["log_q"]
        at = {
            alpha: found(double(RenyiBound, alpha, 7), v)[0][2]
            for alpha in (1 - 1e-9, 1.0, 1 + 1e-9)
        }
        np.testing.assert_allclose(at[1.0], weights.mean(0), rtol=1e-12)
        # The error is power / 2 times the variance of the weights.
        for alpha in (1 - 1e-9, 1 + 1e-9):
            near = weights.mean(0) + (1 - alpha) / 2 * weights.var(0)
            np.testing.assert_allclose(at[alpha], near, rtol=1e-12)


def _bounds(samples, repeats, loc, scale):
    """Importance-weighted bounds, each with new samples: `[repeats, B]`."""
    iwae = double(IWAE, samples)
    q = diagonal(loc, scale)
    z = q.sample(samples * repeats, seed=tfp_seed(1))
    # The repeats and the examples form a larger batch.
    z = ops.reshape(z, (samples, repeats * B, L))
    tiled = diagonal(np.tile(loc, (repeats, 1)), np.tile(scale, (repeats, 1)))
    terms = iwae(
        ops.convert_to_tensor(np.tile(X, (repeats, 1))),
        posterior=tiled,
        likelihood=likelihood(z),
        z=z,
    )
    return numpy(terms.objective).reshape(repeats, B)


def vi_gradients(samples, estimator, stopped):
    """The gradients of tfp.vi in the parameters of posterior and decoder."""

    def loss(loc, scale, w):
        q = diagonal(loc, scale)
        still = diagonal(ops.stop_gradient(loc), ops.stop_gradient(scale))
        return tfp.vi.monte_carlo_variational_loss(
            lambda z: (
                likelihood(z, w).log_prob(X)
                + diagonal(np.zeros(L), np.ones(L)).log_prob(z)
            ),
            q,
            sample_size=1,
            importance_sample_size=samples,
            gradient_estimator=estimator,
            stopped_surrogate_posterior=still if stopped else None,
            seed=tfp_seed(3),
        )

    return gradients(loss, *parameters(), W)


def our_gradients(objective, samples):
    def loss(loc, scale, w):
        q = diagonal(loc, scale)
        # The seed that tfp.vi takes for its samples.
        z = q.sample(samples, seed=samplers.split_seed(tfp_seed(3), 2)[0])
        z = objective.latents(z)
        terms = objective(
            ops.convert_to_tensor(X),
            posterior=q,
            likelihood=likelihood(z, w),
            z=z,
        )
        return -terms.objective

    return gradients(loss, *parameters(), W)


class TestGradients:
    """Float64: except for the order of sums the two are the same numbers."""

    @pytest.mark.parametrize("samples", [1, 6])
    def test_standard(self, samples):
        with float64():
            expected = vi_gradients(
                samples, tfp.vi.GradientEstimators.REPARAMETERIZATION, False
            )
            actual = our_gradients(double(IWAE, samples), samples)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize(
        "objective",
        [
            functools.partial(ELBO, gradient="stl"),
            functools.partial(IWAE, 1, gradient="stl"),
            functools.partial(IWAE, 1, gradient="dreg"),
        ],
    )
    def test_sticking_the_landing(self, objective):
        """In tfp.vi the doubly reparameterised gradient of one sample."""
        with float64():
            expected = vi_gradients(
                1, tfp.vi.GradientEstimators.DOUBLY_REPARAMETERIZED, True
            )
            actual = our_gradients(double(objective), 1)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-11)

    def test_doubly_reparameterised(self):
        """tfp.vi squares the weights for the decoder too, where the paper
        has the standard gradient: compare each with what is right for it."""
        estimators = tfp.vi.GradientEstimators
        with float64():
            doubly = vi_gradients(6, estimators.DOUBLY_REPARAMETERIZED, True)
            standard = vi_gradients(6, estimators.REPARAMETERIZATION, False)
            actual = our_gradients(double(IWAE, 6, gradient="dreg"), 6)
        for a, e in zip(actual, [*doubly[:2], standard[2]], strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-11)
        assert abs(doubly[2] / standard[2] - 1).max() > 0.1

    def test_stl_of_several_samples(self):
        """v_s d log w_s / dz: the standard gradient without the score."""

        def without_score(loc, scale, w):
            q = diagonal(loc, scale)
            still = diagonal(ops.stop_gradient(loc), ops.stop_gradient(scale))
            z = q.sample(6, seed=samplers.split_seed(tfp_seed(3), 2)[0])
            weights = (
                likelihood(z, w).log_prob(X)
                + diagonal(np.zeros(L), np.ones(L)).log_prob(z)
                - still.log_prob(z)
            )
            return -ops.logsumexp(weights, axis=0)

        with float64():
            expected = gradients(without_score, *parameters(), W)
            actual = our_gradients(double(IWAE, 6, gradient="stl"), 6)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-11)

    def test_no_noise_is_left_at_the_true_posterior(self):
        """With an orthogonal W the true posterior has a diagonal covariance."""
        w = np.linalg.qr(W.T)[0].T
        scale = np.full((B, L), (1 + NOISE**-2) ** -0.5)
        loc = (X - MU) @ w.T / (1 + NOISE**2)

        def loss(objective, loc, scale):
            return -terms_at(objective, loc, scale, 5, w=w).objective

        with float64():
            for objective, bound in (
                (double(ELBO, gradient="stl", num_samples=5), 1e-10),
                (double(IWAE, 5, gradient="dreg"), 1e-10),
                (double(ELBO, kl="monte_carlo", num_samples=5), None),
            ):
                found = gradients(
                    functools.partial(loss, objective), loc, scale
                )
                largest = max(abs(g).max() for g in found)
                # The standard gradient has the score's noise.
                assert largest < bound if bound else largest > 0.1

    def test_weights_of_examples_reach_the_marked_samples(self):
        """Examples of zero and of negative weight scale correctly."""
        weights = np.array([0.0, 1.0, 2.0, -1.0, 1e-30, 1.0])

        def loss(objective, loc, scale):
            terms = terms_at(objective, loc, scale, 4)
            return -ops.convert_to_tensor(weights) * terms.objective

        def plain(objective, loc, scale):
            return -terms_at(objective, loc, scale, 4).objective

        iwae = double(IWAE, 4, gradient="dreg")
        with float64():
            weighed = gradients(functools.partial(loss, iwae), *parameters())
            each = gradients(functools.partial(plain, iwae), *parameters())
        for a, e in zip(weighed, each, strict=True):
            np.testing.assert_allclose(a, weights[:, None] * e, rtol=1e-12)

    def test_samples_that_were_not_marked_are_refused(self):
        v = numbers(samples=3)
        iwae = double(IWAE, 3, gradient="dreg")
        with float64(), pytest.raises(ValueError, match=r"iwae.latents\(z\)"):
            iwae(
                ops.convert_to_tensor(X),
                posterior=diagonal(v["loc"], v["scale"]),
                likelihood=likelihood(v["z"]),
                z=ops.convert_to_tensor(v["z"]),
            )


class TestPenalties:
    @pytest.mark.parametrize("capacity", [0.0, 3.0, 30.0])
    def test_capacity(self, capacity):
        """Burgess et al. 2018, equation 8, on the mean KL of the batch."""
        v = numbers()
        elbo = double(ELBO, beta=10.0, capacity=capacity, num_samples=7)
        (log_likelihood, kl, objective), _ = found(elbo, v)
        penalty = 10.0 * abs(v["kl"].mean() - capacity)
        np.testing.assert_allclose(objective, log_likelihood - penalty)
        np.testing.assert_allclose(kl, v["kl"])

    def test_schedules_move_together_and_are_reported(self):
        elbo = double(
            ELBO,
            beta=LinearWarmup(4),
            capacity=LinearWarmup(2, 0.0, 6.0),
            num_samples=7,
        )
        v = numbers()
        with float64():
            arguments = {
                "posterior": diagonal(v["loc"], v["scale"]),
                "likelihood": likelihood(v["z"]),
                "z": ops.convert_to_tensor(v["z"]),
            }
            reports = [
                elbo(ops.convert_to_tensor(X), **arguments, training=t).reports
                for t in (True, True, False, True, True, True)
            ]
        steps = np.array([0, 1, 2, 2, 3, 4])
        np.testing.assert_allclose(
            [float(numpy(r["beta"])) for r in reports], steps / 4
        )
        np.testing.assert_allclose(
            [float(numpy(r["capacity"])) for r in reports],
            6 * np.minimum(steps / 2, 1),
        )
        again = ELBO.from_config(elbo.get_config())
        assert again.get_config() == elbo.get_config()

    @pytest.mark.parametrize("kernel", ["imq", "rbf"])
    def test_discrepancy_against_numpy(self, kernel):
        """Gretton et al. 2012, equation 5, pair by pair."""
        rng = np.random.default_rng(3)
        a, b = rng.normal(size=(5, 3)), rng.normal(size=(4, 3)) + 1

        def k(u, v, c):
            d = ((u - v) ** 2).sum()
            return c / (c + d) if kernel == "imq" else np.exp(-d / c)

        def mean(u, v, c):
            return np.mean([[k(i, j, c) for j in v] for i in u])

        with float64():
            for bandwidth in (None, 0.7):
                c = bandwidth or 6.0
                value = maximum_mean_discrepancy(
                    ops.convert_to_tensor(a),
                    ops.convert_to_tensor(b),
                    kernel,
                    bandwidth,
                )
                expected = mean(a, a, c) + mean(b, b, c) - 2 * mean(a, b, c)
                assert float(numpy(value)) == pytest.approx(expected, rel=1e-9)
            same = maximum_mean_discrepancy(
                *[ops.convert_to_tensor(a)] * 2, kernel
            )
        assert float(numpy(same)) == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(
        ("objective", "kl_weight", "weight"),
        [
            (functools.partial(InfoVAE, 0.0, 1.0), 1.0, 0.0),
            (functools.partial(InfoVAE, 0.25, 10.0), 0.75, 9.25),
            (functools.partial(InfoVAE, -1.0, 3.0), 2.0, 1.0),
            (functools.partial(MMD, 50.0), 0.0, 50.0),
        ],
    )
    def test_info_vae(self, objective, kl_weight, weight):
        v = numbers(samples=2)
        made = double(objective, num_samples=2)
        (log_likelihood, kl, value), reports = found(made, v)
        np.testing.assert_allclose(
            value,
            log_likelihood - kl_weight * kl - weight * reports["mmd"],
            rtol=1e-12,
        )
        assert 0 < reports["mmd"] < 1

    def test_the_discrepancy_sees_the_prior(self):
        """With many draws it is small at the prior, and large away from it."""
        rng = np.random.default_rng(4)
        for shift, low, high in ((0.0, 0.0, 0.02), (2.0, 0.3, 1.0)):
            loc = rng.normal(size=(B * 50, L)) + shift
            objective = double(MMD)
            with float64():
                q = diagonal(loc, np.full_like(loc, 1e-3))
                mmd = objective(
                    ops.convert_to_tensor(np.tile(X, (50, 1))),
                    posterior=q,
                    likelihood=likelihood(loc),
                    z=ops.convert_to_tensor(loc),
                ).reports["mmd"]
            assert low < float(numpy(mmd)) < high

    def test_beta_tcvae_against_numpy(self):
        """Chen et al. 2018, with minibatch weighted sampling."""
        v, n = numbers(), 1000
        made = double(
            BetaTCVAE, n, beta=5.0, alpha=0.5, gamma=2.0, num_samples=7
        )
        (log_likelihood, _, objective), reports = found(made, v)
        joint = scipy.special.logsumexp(v["pairs"].sum(-1), 2) - np.log(n * B)
        single = scipy.special.logsumexp(v["pairs"], 2) - np.log(n * B)
        information = v["log_q"] - joint
        correlation = joint - single.sum(-1)
        rest = single.sum(-1) - v["log_prior"]
        penalty = 0.5 * information + 5 * correlation + 2 * rest
        np.testing.assert_allclose(
            objective, log_likelihood - penalty.mean(0), rtol=1e-10
        )
        assert reports == pytest.approx(
            {
                "mutual_information": information.mean(),
                "total_correlation": correlation.mean(),
                "dimension_kl": rest.mean(),
            }
        )

    def test_beta_tcvae_of_equal_weights_is_the_elbo(self):
        v = numbers()
        ours = found(double(BetaTCVAE, 60, beta=1.0, num_samples=7), v)
        elbo = found(double(ELBO, kl="monte_carlo", num_samples=7), v)
        np.testing.assert_allclose(ours[0][2], elbo[0][2], rtol=1e-10)

    @pytest.mark.parametrize(
        ("variant", "diagonal_weight"), [("i", None), ("ii", None), ("ii", 7.0)]
    )
    def test_dip_vae_against_numpy(self, variant, diagonal_weight):
        """Kumar et al. 2018, equations 6 and 7."""
        v = numbers()
        made = double(DIPVAE, variant, 2.0, diagonal_weight, num_samples=7)
        (log_likelihood, kl, objective), reports = found(made, v)
        c = np.cov(v["loc"].T, bias=True)
        if variant == "ii":
            c = c + np.diag((v["scale"] ** 2).mean(0))
        on = diagonal_weight or {"i": 20.0, "ii": 2.0}[variant]
        penalty = 2.0 * (c**2).sum() - 2.0 * (np.diag(c) ** 2).sum()
        penalty += on * ((np.diag(c) - 1) ** 2).sum()
        np.testing.assert_allclose(
            objective, log_likelihood - kl - penalty, rtol=1e-10
        )
        assert reports["moment_penalty"] == pytest.approx(penalty)

    def test_dip_vae_with_a_full_covariance(self):
        rng = np.random.default_rng(5)
        root = np.tril(rng.normal(size=(B, L, L)))
        loc = rng.normal(size=(B, L))
        with float64():
            q = tfd.MultivariateNormalTriL(loc, root)
            terms = double(DIPVAE, "ii", 1.0)(
                ops.convert_to_tensor(X),
                posterior=q,
                likelihood=likelihood(loc),
            )
            penalty = float(numpy(terms.reports["moment_penalty"]))
        c = np.cov(loc.T, bias=True)
        c = c + (root @ root.transpose(0, 2, 1)).mean(0)
        assert penalty == pytest.approx(((c - np.eye(L)) ** 2).sum())


OBJECTIVES = {
    "capacity": lambda: ELBO(beta=4.0, capacity=LinearWarmup(8, 0.0, 2.0)),
    "iwae_dreg": lambda: IWAE(3, gradient="dreg"),
    "renyi": lambda: RenyiBound(0.5, 3),
    "info": lambda: InfoVAE(0.5, LinearWarmup(8, 1.0, 20.0), num_samples=2),
    "tc": lambda: BetaTCVAE(40, beta=LinearWarmup(8)),
    "dip": lambda: DIPVAE("ii"),
}


def model(objective=None, prior=None):
    keras.utils.set_random_seed(3)
    encoder = keras.Sequential(
        [
            keras.Input((D,)),
            keras.layers.Dense(
                layers.MultivariateNormalDiag.params_size(L),
                kernel_initializer=keras.initializers.RandomNormal(0.0, 0.1),
            ),
            layers.MultivariateNormalDiag(L),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((L,)),
            keras.layers.Dense(D),
            layers.IndependentNormal(D, scale=1.0),
        ]
    )
    vae = VAE(encoder, decoder, prior=prior, objective=objective, seed=4)
    vae.compile(keras.optimizers.Adam(0.02))
    return vae


DATA = (np.random.default_rng(6).normal(size=(42, L)) @ W + MU).astype(
    "float32"
)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_trains_is_saved_and_goes_on(name, tmp_path):
    """42 = 2 * 20 + 2: the last batch is small."""
    vae = model(OBJECTIVES[name]())

    def fit(vae, epochs):
        return vae.fit(
            DATA, batch_size=20, epochs=epochs, verbose=0, shuffle=False
        ).history

    history = fit(vae, 6)
    assert set(history) == {
        "loss",
        "log_likelihood",
        "kl",
        *vae.objective.report_names,
    }
    assert history["log_likelihood"][-1] > history["log_likelihood"][0]
    assert all(np.isfinite(values).all() for values in history.values())
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras", safe_mode=True)
    assert again.objective.get_config() == vae.objective.get_config()
    assert again.evaluate(DATA, verbose=0) == vae.evaluate(DATA, verbose=0)
    # The step is saved, and with it schedules and draws from the prior.
    more, expected = fit(again, 1), fit(vae, 1)
    for term, values in expected.items():
        assert more[term] == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ELBO(capacity=-1.0), "capacity is a number >= 0"),
        (lambda: ELBO(capacity=1.0, free_bits=0.1), "take one"),
        (lambda: ELBO(gradient="dreg"), "gradient is one of"),
        (lambda: ELBO(gradient="stl", kl="exact"), "Monte Carlo KL"),
        (lambda: ELBO(gradient="stl", free_bits=0.1), "Monte Carlo KL"),
        (lambda: IWAE(0), "num_samples is an int"),
        (lambda: IWAE(5, gradient="score"), "gradient is one of"),
        (lambda: RenyiBound(float("nan")), "order of a Renyi"),
        (lambda: InfoVAE(1.5), "1 - alpha weighs the KL"),
        (lambda: InfoVAE(0.0, 0.5), "alpha \\+ lambda_ - 1"),
        (lambda: InfoVAE(kernel="linear"), "kernel is one of"),
        (lambda: MMD(bandwidth=0.0), "bandwidth is a squared distance"),
        (lambda: BetaTCVAE(0), "data_size is the number of examples"),
        (lambda: BetaTCVAE(10, beta=-1.0), "beta is a number >= 0"),
        (lambda: DIPVAE("iii"), "variant is one of"),
        (lambda: DIPVAE(diagonal=-1.0), "diagonal is a number >= 0"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        make()


def test_what_an_objective_cannot_work_with():
    q = tfd.MultivariateNormalTriL(
        np.zeros((2, L), "f"), np.tile(np.eye(L, dtype="f"), (2, 1, 1))
    )
    p = tfd.Independent(tfd.Normal(np.zeros((2, D), "f"), 1.0), 1)
    x, z = np.zeros((2, D), "f"), np.zeros((2, L), "f")
    with pytest.raises(ValueError, match="samples of the posterior"):
        IWAE(1)(x, posterior=q, likelihood=p)
    with pytest.raises(NotImplementedError, match="coordinates are indep"):
        BetaTCVAE(10)(x, posterior=q, likelihood=p, z=z)
    scalar = tfd.Normal(np.zeros(2, "f"), 1.0)
    with pytest.raises(ValueError, match="latent vectors"):
        DIPVAE()(x, posterior=scalar, likelihood=p, z=z[:, 0])


def test_other_draws_than_those_marked_are_refused():
    q = tfd.MultivariateNormalDiag(np.zeros((B, L), "f"), np.ones(L, "f"))
    p = tfd.Independent(tfd.Normal(np.zeros((3, B, D), "f"), 1.0), 1)
    iwae = IWAE(3, gradient="dreg")
    iwae.latents(q.sample(3, seed=tfp_seed(0)))
    other = q.sample(3, seed=tfp_seed(1))
    with pytest.raises(ValueError, match=r"iwae.latents\(z\)"):
        iwae(np.zeros((B, D), "f"), posterior=q, likelihood=p, z=other)


def test_free_bits_know_every_spelling_of_a_standard_normal():
    loc = np.random.default_rng(9).normal(size=(B, L)).astype("f")
    q = tfd.MultivariateNormalDiag(loc, np.ones(L, "f"))
    p = tfd.Independent(tfd.Normal(np.zeros((B, D), "f"), 1.0), 1)
    penalties = [
        numpy(
            ELBO(free_bits=1.5)(
                np.zeros((B, D), "f"), posterior=q, likelihood=p, prior=prior
            ).objective
        )
        for prior in (None, tfd.MultivariateNormalDiag(np.zeros(L, "f")))
    ]
    np.testing.assert_allclose(penalties[0], penalties[1], rtol=1e-6)


class TestPriors:
    def test_mixture_against_scipy(self):
        prior = layers.MixturePrior(3, L)
        rng = np.random.default_rng(7)
        logits, loc, raw = (
            rng.normal(size=s).astype("f") for s in ((3,), (3, L), (3, L))
        )
        prior.set_weights([logits, loc, raw])
        z = rng.normal(size=(5, L)).astype("f")
        each = scipy.stats.norm.logpdf(
            z[:, None], loc, np.logaddexp(0, raw) + 1e-3
        ).sum(-1)
        expected = scipy.special.logsumexp(
            each + scipy.special.log_softmax(logits), axis=1
        )
        np.testing.assert_allclose(
            numpy(prior(None).log_prob(z)), expected, rtol=1e-5
        )

    def test_vamp_is_a_mixture_of_posteriors(self):
        prior = layers.VampPrior(4, D, activation="sigmoid")
        vae = model(prior=prior)
        pseudo = 1 / (1 + np.exp(-numpy(prior.pseudo_inputs)))
        q = vae.encode(pseudo)
        z = np.random.default_rng(8).normal(size=(5, L)).astype("f")
        each = scipy.stats.norm.logpdf(
            z[:, None], numpy(q.mean()), numpy(q.stddev())
        ).sum(-1)
        np.testing.assert_allclose(
            numpy(vae.prior_distribution(q).log_prob(z)),
            scipy.special.logsumexp(each, axis=1) - np.log(4),
            rtol=1e-5,
        )
        with pytest.raises(ValueError, match="called with the encoder"):
            prior(None)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: layers.MixturePrior(3, L),
            lambda: layers.VampPrior(3, (D,), activation="tanh"),
        ],
        ids=["mixture", "vamp"],
    )
    # After two epochs the posterior covers little, and a warning says so.
    @pytest.mark.filterwarnings("ignore:An estimate of log p")
    def test_trained_saved_and_used(self, make, tmp_path):
        prior = make()
        vae = model(IWAE(2, gradient="dreg"), prior)
        before = [numpy(w).copy() for w in prior.weights]
        vae.fit(DATA, batch_size=21, epochs=2, verbose=0)
        assert all(
            (numpy(w) != b).any()
            for w, b in zip(prior.weights, before, strict=True)
        )
        vae.save(tmp_path / "vae.keras")
        again = keras.saving.load_model(tmp_path / "vae.keras")
        assert again.evaluate(DATA, verbose=0) == vae.evaluate(DATA, verbose=0)
        np.testing.assert_array_equal(
            numpy(again.sample(3, seed=1)), numpy(vae.sample(3, seed=1))
        )
        found = again.marginal_log_likelihood(DATA, 50, seed=0)
        assert found.log_likelihood.mean() > -vae.evaluate(DATA, verbose=0)[0]

    def test_sizes_are_checked(self):
        for make in (
            lambda: layers.MixturePrior(0, L),
            lambda: layers.MixturePrior(3, (2, 2)),
            lambda: layers.VampPrior(2.5, D),
            lambda: layers.VampPrior(2, -1),
        ):
            with pytest.raises(ValueError, match="Received: "):
                make()
