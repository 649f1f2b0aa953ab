"""Checks of draws: their density, shapes, seeds and independence."""

import math

import numpy as np

from tfp_vae.pareto import pareto_k
from tfp_vae.substrate import tfp_seed
from tfp_vae.testing.case import DRAWS, Case
from tfp_vae.testing.events import SIGMAS, Sampled, scores, unconstrained
from tfp_vae.testing.mass import Array, place_of
from tfp_vae.testing.verdicts import NotApplicable, require

__all__ = [
    "check_independent_draws",
    "check_sample_moments",
    "check_sample_shapes",
    "check_samples",
    "check_seeds",
    "check_stein",
]

# The rate of false alarms, for each distribution of a batch.
_FALSE_ALARM = 1e-9
# The greatest kurtosis at which means of this many draws are normal.
_TAME = 50.0
# The least mass of all outcomes except one at which draws are informative.
_RARE = 1e-3
# Draws for Stein's identities.
_SCORED = 2**13
_LEVELS = np.linspace(0.1, 0.9, 9)


def check_samples(case: Case) -> None:
    """Draws follow the density.

    For a scalar, the greatest distance of their empirical cdf from the integral
    of the density, over all points, exceeds sqrt(log(2 / a) / (2 n)) with
    probability at most a (Dvoretzky, Kiefer, Wolfowitz; Massart 1990): here
    n = 32768 and a = 1e-9, so that 0.018 is the least distance that fails. For
    a vector, random projections are compared at nine levels, at seven standard
    errors; for a discrete one, the frequency of each outcome.
    """
    draws = case.first_draws
    require(
        np.isfinite(draws) | _is_rounded(case, draws),
        "Draws must be finite",
        f"{(~np.isfinite(draws)).sum()} of {draws.size} that are not, for "
        f"{case}",
    )
    if case.event_shape:
        integral = case.integral
        assert isinstance(integral, Sampled)
        if integral.counts is None:
            _check_projections(case, draws, integral)
        else:
            _check_counts(case, integral, integral.counts)
        return
    mass = case.mass
    low, high = case.support
    require(
        (draws >= low) & (draws <= high),
        "Draws must lie in the support",
        f"values from {draws.min(axis=0)} to {draws.max(axis=0)} for {case}, "
        f"whose support is from {low} to {high}",
    )
    share = mass.below / mass.below[-1:]
    bound = math.sqrt(math.log(2.0 / _FALSE_ALARM) / (2.0 * DRAWS))
    bound += case.tolerance(0.0) + 1e-3 * case.is_discrete
    for i in np.ndindex(*case.batch_shape):
        at = (slice(None), *i)
        # The mass was counted up to the edge as the dtype rounds it.
        edges = case.rounded(mass.edges[at])
        found = np.searchsorted(np.sort(draws[at]), edges, side="right") / DRAWS
        worst = int(np.argmax(np.abs(found - share[at])))
        distance = abs(found[worst] - share[at][worst])
        require(
            distance <= bound + mass.noise[i],
            "Draws must follow the density",
            f"a share of {found[worst]:.4f} of {DRAWS} draws at or below "
            f"{edges[worst]:.4g}, where the density has "
            f"{share[at][worst]:.4f}, for distribution {i} of {case}",
        )


def _is_rounded(case: Case, draws: Array) -> Array:
    """Which draws are infinite since the dtype ends before the density does.

    Not where so many have a probability of less than `_FALSE_ALARM`, by
    Chernoff's bound of a Poisson count whose mean is the mass out of reach.
    """
    infinite = np.isinf(draws)
    if case.event_shape or case.is_discrete or not infinite.any():
        return np.zeros_like(infinite)
    count = infinite.sum(axis=0)
    expected = DRAWS * case.mass.hidden
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = count - expected + count * np.log(expected / count)
    is_few = (count <= expected) | (bound >= math.log(_FALSE_ALARM))
    return infinite & is_few


def _check_projections(case: Case, draws: Array, integral: Sampled) -> None:
    batch = case.batch_shape
    size = math.prod(case.event_shape)
    random = np.random.default_rng(0)
    directions = np.concatenate(
        [np.eye(size), random.standard_normal((6, size))]
    )
    flat = draws.reshape(DRAWS, *batch, size)
    weighted = integral.x.reshape(len(integral.x), *batch, size)
    levels = SIGMAS * 0.5 / math.sqrt(DRAWS)
    for direction in directions:
        ours, exact = flat @ direction, weighted @ direction
        for i in np.ndindex(*batch):
            at = (slice(None), *i)
            place = np.quantile(ours[at], _LEVELS)
            share, error = _weighted_cdf(exact[at], integral.weights[at], place)
            found = (ours[at][:, None] <= place).mean(axis=0)
            worst = int(np.argmax(np.abs(found - share) - error))
            require(
                np.abs(found - share) <= error + levels,
                "Draws must follow the density",
                f"a share of {found[worst]:.4f} of {DRAWS} draws at or below "
                f"{place[worst]:.4g} along {np.round(direction, 2)}, where the "
                f"density has {share[worst]:.4f} +- {error[worst]:.4f}, for "
                f"distribution {i} of {case}",
            )


def _weighted_cdf(
    values: Array, weights: Array, places: Array
) -> tuple[Array, Array]:
    """The share of weight at or below places, and seven standard errors."""
    order = np.argsort(values)
    index = np.searchsorted(values[order], places, side="right")
    whole = weights.sum()
    below, square = (
        np.concatenate([[0.0], np.cumsum(w[order])])[index]
        for w in (weights, np.square(weights))
    )
    share = below / whole
    variance = (1.0 - 2.0 * share) * square + np.square(share) * np.square(
        weights
    ).sum()
    return share, SIGMAS * np.sqrt(np.maximum(variance, 0.0)) / whole


def _check_counts(case: Case, integral: Sampled, counts: Array) -> None:
    expected = DRAWS * np.exp(integral.log_prob)
    # Bernstein's bound of a count.
    log = math.log(2.0 * len(integral.x) / _FALSE_ALARM)
    bound = np.sqrt(2.0 * log * expected) + log
    apart = np.abs(counts - expected) - bound
    worst = place_of(np.argmax(apart), apart.shape)
    require(
        apart <= 0,
        "Draws must follow the density",
        f"{counts[worst]} of {DRAWS} draws are "
        f"{integral.x[worst].tolist()}, of which the density expects "
        f"{expected[worst]:.1f}, for distribution {worst[1:]} of {case}",
    )


def check_stein(case: Case) -> None:
    """Draws have the slopes of the density (Stein's identities).

    With s the gradient of the log density in unconstrained space, E[s] = 0 and
    E[s_j (z_k - m_k)] is -1 where j = k, otherwise 0, for any m. They are
    tested at seven standard errors, if the terms have light enough tails.
    """
    if not case.event_shape:
        raise NotApplicable("`samples` looks at scalars")
    if case.is_discrete:
        raise NotApplicable("outcomes have no slope")
    z = unconstrained(case, case.first_draws[:_SCORED])
    s = scores(case, z)
    shape = (_SCORED, *case.batch_shape, -1)
    z, s = z.reshape(shape), s.reshape(shape)
    z = z - np.median(z, axis=0)
    identity = np.eye(z.shape[-1])
    terms = s[..., :, None] * z[..., None, :] + identity
    known_any = False
    for name, values in (("E[s]", s), ("E[s (z - m)] + 1", terms)):
        mean, spread = values.mean(axis=0), values.std(axis=0)
        with np.errstate(all="ignore"):
            tame = ((values - mean) ** 4).mean(axis=0) <= _TAME * spread**4
        tame = tame & np.isfinite(spread)
        known_any |= bool(tame.any())
        error = SIGMAS * spread / math.sqrt(_SCORED)
        apart = np.where(tame, np.abs(mean) - error, -np.inf)
        worst = place_of(np.argmax(apart), apart.shape)
        require(
            apart <= case.tolerance(1e-4),
            "Draws must have the slopes of the density (Stein's identities)",
            f"{name} = {mean[worst]:.4f} +- {error[worst]:.4f} instead of 0, "
            f"in number {worst[len(case.batch_shape) :]} of the event, for "
            f"{case} (another scale in log_prob than in the sampler?)",
        )
    if not known_any:
        raise NotApplicable("slopes are too heavy-tailed")


def _kurtosis(centred: Array) -> Array:
    """The kurtosis of draws, infinite where their tail allows no fourth moment.

    The squares have a variance if the shape of their tail is below 1/2. At the
    limit, of 540 squares, it is found with a standard error of 0.06.
    """
    squares = np.square(centred)
    size = 3 * math.isqrt(DRAWS)
    top = np.sort(squares.reshape(DRAWS, -1), axis=0)[-size - 1 :]
    with np.errstate(all="ignore"):
        heavy = pareto_k(np.log(top)).reshape(squares.shape[1:]) > 0.4
        found = np.square(squares).mean(axis=0) / np.square(
            squares.mean(axis=0)
        )
    return np.where(heavy, np.inf, found)


def check_sample_moments(case: Case) -> None:
    """Draws have the stated mean and variance.

    By the central limit theorem at seven standard errors (a false alarm in 4e11
    numbers), if the fourth moment allows it.
    """
    draws = case.first_draws
    found = case.ask_all(("mean", "variance"))
    if not found:
        raise NotApplicable("no moments")
    with np.errstate(all="ignore"):
        centred = draws - draws.mean(axis=0)
    if case.event_shape:
        kurtosis = _kurtosis(centred)
    else:
        # From the density: draws hide how heavy their tails are.
        mass = case.mass
        mean, _ = mass.mean_of(mass.x)
        variance, _ = mass.mean_of(np.square(mass.x - mean))
        fourth, _ = mass.mean_of((mass.x - mean) ** 4)
        kurtosis = fourth / np.square(variance)
    known_any = False
    for name, stated in found.items():
        values = draws if name == "mean" else np.square(centred)
        error = SIGMAS * values.std(axis=0) / math.sqrt(DRAWS)
        error = error + (1e-5 + case.eps) * np.maximum(1.0, np.abs(stated))
        known = np.isfinite(stated) & (kurtosis < _TAME)
        known_any |= bool(np.any(known))
        require(
            stated.shape == draws.shape[1:],
            f"{name} must have the batch and the event shape",
            f"shape {stated.shape} for draws of shape {draws.shape[1:]}",
        )
        require(
            (np.abs(values.mean(axis=0) - stated) <= error) | ~known,
            f"Draws must have the stated {name}",
            f"{values.mean(axis=0)} +- {error} in {DRAWS} draws, {stated} "
            f"stated, for {case}",
        )
    if not known_any:
        raise NotApplicable("tails too heavy for means of draws")


def check_sample_shapes(case: Case) -> None:
    """`sample(shape)` gives `shape + batch_shape + event_shape`."""
    # A missing sampler is reported here.
    first = case.first_draws
    whole = (*case.batch_shape, *case.event_shape)
    require(
        first.shape == (DRAWS, *whole),
        "sample(shape) must give shape + batch_shape + event_shape",
        f"shape {first.shape} from sample({DRAWS}) of batch shape "
        f"{case.batch_shape} and event shape {case.event_shape}, for {case}",
    )
    for shape, expected in (((), ()), (4, (4,)), ((2, 3), (2, 3))):
        found = case.shapes(
            lambda distribution, seed, shape=shape: distribution.sample(
                shape, seed=seed
            ),
            tfp_seed(case.seed),
        )
        require(
            tuple(found.shape) == (*expected, *whole),
            "sample(shape) must give shape + batch_shape + event_shape",
            f"shape {tuple(found.shape)} from sample({shape}) of batch shape "
            f"{case.batch_shape} and event shape {case.event_shape}, for "
            f"{case}",
        )


def _refuse_rare(case: Case) -> None:
    """Refuses rare outcomes, about which 32,768 draws say nothing.

    Raises:
        NotApplicable: if the likeliest outcome has all except 1e-3 of the mass.
    """
    if not case.is_discrete:
        return
    try:
        likeliest = np.exp(case.integral.log_prob.max(axis=0))
    except NotApplicable:
        return
    if (likeliest > 1.0 - _RARE).all():
        raise NotApplicable(
            f"one outcome has {likeliest.max():.6f} of the mass"
        )


def check_seeds(case: Case) -> None:
    """A seed repeats its draws, and another one gives others."""
    first, again, other = (case.draws(seed) for seed in (5, 5, 6))
    require(
        np.array_equal(first, again, equal_nan=True),
        "The same seed must give the same draws",
        f"draws that differ, for {case}",
    )
    _refuse_rare(case)
    require(
        not np.array_equal(first, other, equal_nan=True),
        "Another seed must give other draws",
        f"the same {DRAWS} draws from two seeds, for {case}",
    )


def check_independent_draws(case: Case) -> None:
    """Draws of one call differ, and do not depend on one another.

    Rank correlations with the previous draws, with those of the other half, and
    in reverse (antithetic draws), at seven standard errors; the same across the
    batch (common noise).
    """
    _refuse_rare(case)
    # One coordinate of each: those of a simplex depend on one another.
    first = (..., *[0] * len(case.event_shape))
    draws = case.first_draws[first].reshape(DRAWS, -1)
    require(
        len(draws) < 2 or np.ptp(draws, axis=0).any(),
        "The draws of one call must be independent",
        f"the same value {DRAWS} times for {case}",
    )
    if not case.is_discrete:
        for column in draws[:64].T:
            values, counts = np.unique(column, return_counts=True)
            # One value may have a probability of its own, as in an inflated
            # density.
            rest = counts[counts < counts.max()] if counts.max() > 4 else counts
            repeats = (rest - 1).sum()
            # The spacing of numbers of the dtype.
            spread = np.ptp(np.quantile(column, [0.25, 0.75])) + 1e-30
            by_chance = 64 * 64 * case.eps * np.abs(column).max() / spread
            require(
                repeats <= 4 + 2 * by_chance and len(values) > 1,
                "The draws of one call must be independent",
                f"{repeats + 1} repeated values among 64 draws for {case}",
            )
    ranks = np.argsort(np.argsort(draws, axis=0, kind="stable"), axis=0)
    ranks = np.float64(ranks)
    # Ties would keep the order of their indices, which looks like a trend.
    random = np.random.default_rng(0).random(draws.shape)
    if case.is_discrete or (np.diff(np.sort(draws, axis=0), axis=0) == 0).any():
        order = np.stack(
            [
                np.lexsort((noise, column))
                for noise, column in zip(random.T, draws.T, strict=True)
            ],
            axis=-1,
        )
        np.put_along_axis(
            ranks, order, np.arange(DRAWS, dtype=float)[:, None], axis=0
        )
    ranks = (ranks - ranks.mean(axis=0)) / np.maximum(ranks.std(axis=0), 1e-9)
    half = DRAWS // 2
    bound = SIGMAS / math.sqrt(half // 2)
    for name, other in (
        ("next to one another", np.roll(ranks, 1, axis=0)),
        ("two apart", np.roll(ranks, 2, axis=0)),
        ("of the two halves", np.roll(ranks, half, axis=0)),
        ("counted from both ends", ranks[::-1]),
    ):
        found = (ranks * other).mean(axis=0)
        require(
            np.abs(found) <= bound,
            "The draws of one call must be independent",
            f"a rank correlation of {found} between draws {name}, for {case} "
            "(antithetic noise?)",
        )
    if ranks.shape[1] < 2:
        return
    alike = ranks.T @ ranks / DRAWS - np.eye(ranks.shape[1])
    require(
        np.abs(alike) <= bound,
        "The distributions of a batch must draw independently",
        f"a rank correlation of {np.abs(alike).max():.3f} between two of them, "
        f"for {case}",
    )
