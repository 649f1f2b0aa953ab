"""What draws owe the density, and the caller."""

import math

import numpy as np

from tfp_vae.testing.case import Case, NotApplicable, require

__all__ = [
    "check_independent_draws",
    "check_sample_moments",
    "check_sample_shapes",
    "check_samples",
    "check_seeds",
]

_DRAWS = 2**15
# How often a right sampler is blamed, for each distribution of a batch.
_FALSE_ALARM = 1e-9
# The greatest kurtosis at which means of so many draws are normal.
_TAME = 50.0


def check_samples(case: Case) -> None:
    """Draws follow the density.

    The greatest distance of their empirical cdf from the integral of the
    density, over all points, exceeds sqrt(log(2 / a) / (2 n)) with probability
    at most a (Dvoretzky, Kiefer, Wolfowitz; Massart 1990): here n = 32768 and
    a = 1e-9, so that 0.018 is the least distance that is blamed.
    """
    mass = case.mass
    draws = case.draws(_DRAWS, seed=1)
    low, high = case.support
    require(
        np.isfinite(draws) & (draws >= low) & (draws <= high),
        "Draws must be finite and lie in the support",
        f"values from {draws.min(axis=0)} to {draws.max(axis=0)} for {case}",
    )
    share = mass.below / mass.below[-1:]
    bound = math.sqrt(math.log(2.0 / _FALSE_ALARM) / (2.0 * _DRAWS))
    for i in np.ndindex(*case.batch_shape):
        at = (slice(None), *i)
        # An edge that the dtype rounds is where the mass was counted up to.
        edges = mass.edges[at].astype(case.dtype).astype(float)
        found = (
            np.searchsorted(np.sort(draws[at]), edges, side="right") / _DRAWS
        )
        worst = int(np.argmax(np.abs(found - share[at])))
        distance = abs(found[worst] - share[at][worst])
        require(
            distance <= bound + 1e-3 * case.is_discrete,
            "Draws must follow the density",
            f"a share of {found[worst]:.4f} of {_DRAWS} draws at or below "
            f"{edges[worst]:.4g}, where the density has "
            f"{share[at][worst]:.4f}, for distribution {i} of {case}",
        )


def check_sample_moments(case: Case) -> None:
    """Draws have the stated mean and variance.

    By the central limit theorem at seven standard errors (a false alarm in 4e11
    numbers), where the fourth moment lets it hold.
    """
    draws = case.draws(_DRAWS, seed=1)
    centred = draws - draws.mean(axis=0)
    kurtosis = (centred**4).mean(axis=0) / np.square(draws.var(axis=0))
    if not case.event_shape:
        # Of the density: draws hide how heavy their tails are.
        mass = case.mass
        mean = mass.mean_of(mass.x)
        variance = mass.mean_of(np.square(mass.x - mean))
        fourth = mass.mean_of((mass.x - mean) ** 4)
        kurtosis = fourth / np.square(variance)
    found_any = False
    for name, values in (("mean", draws), ("variance", np.square(centred))):
        try:
            stated = case.ask(name)
        except NotApplicable:
            continue
        found_any = True
        error = values.std(axis=0) / math.sqrt(_DRAWS)
        known = np.isfinite(stated) & (kurtosis < _TAME)
        require(
            (np.abs(values.mean(axis=0) - stated) <= 7.0 * error + 1e-5)
            | ~known,
            f"Draws must have the stated {name}",
            f"{values.mean(axis=0)} +- {error} in {_DRAWS} draws, {stated} "
            f"stated, for {case}",
        )
    if not found_any:
        raise NotApplicable("no moments")


def check_sample_shapes(case: Case) -> None:
    """`sample(shape)` gives `shape + batch_shape + event_shape`."""
    whole = (*case.batch_shape, *case.event_shape)
    for shape, expected in (((), ()), (4, (4,)), ((2, 3), (2, 3))):
        try:
            found = tuple(case.draw(shape).shape)
        except NotImplementedError as error:
            raise NotApplicable("no sampler") from error
        require(
            found == (*expected, *whole),
            "sample(shape) must give shape + batch_shape + event_shape",
            f"shape {found} from sample({shape}) of batch shape "
            f"{case.batch_shape} and event shape {case.event_shape}, for "
            f"{case}",
        )


def check_seeds(case: Case) -> None:
    """A seed repeats its draws, and another one gives others."""
    first, again, other = (case.draws(64, seed) for seed in (5, 5, 6))
    require(
        np.array_equal(first, again),
        "The same seed must give the same draws",
        f"draws that differ, for {case}",
    )
    require(
        not np.array_equal(first, other),
        "Another seed must give other draws",
        f"the same 64 draws from two seeds, for {case}",
    )


def check_independent_draws(case: Case) -> None:
    """Draws of one call differ from one another, and across the batch."""
    if case.is_discrete:
        raise NotApplicable("outcomes repeat")
    # One coordinate of each: those of a simplex, say, depend on one another.
    first = (..., *[0] * len(case.event_shape))
    draws = case.draws(64, seed=7)[first]
    flat = draws.reshape(len(draws), -1)
    repeated = [len(np.unique(column)) < 60 for column in flat.T]
    require(
        not any(repeated),
        "The draws of one call must be independent",
        f"repeated values among 64 draws for {case}",
    )
    if len(flat.T) < 2:
        return
    # Ranks, so that heavy tails do not matter; 1 for common random numbers.
    ranks = np.argsort(np.argsort(flat, axis=0), axis=0)
    alike = np.abs(np.corrcoef(ranks.T) - np.eye(len(flat.T))).max()
    require(
        alike < 0.95,
        "The distributions of a batch must draw independently",
        f"a rank correlation of {alike:.3f} between two of them, for {case}",
    )
