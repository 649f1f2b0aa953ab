"""How heavy a tail is."""

import numpy as np

__all__ = ["pareto_k"]


def pareto_k(log_weights: np.ndarray) -> np.ndarray:
    """The shape of the tail of positive numbers, by Zhang and Stephens.

    The posterior mean of the shape of a generalised Pareto distribution, under
    their empirical prior and, as in Vehtari et al., a weak prior towards 1/2
    that counts as ten weights.

    Args:
        log_weights: the logarithms of the largest numbers, such as importance
            weights, and, the smallest of them, the threshold, `[M + 1, N]`,
            in any order.

    Returns:
        `[N]`; NaN where fewer than five weights exceed the threshold, -inf
        where all weights are equal.

    References:
        Zhang, Stephens. A new and efficient estimation method for the
        generalized Pareto distribution. Technometrics 51(3), 2009.
        Vehtari et al. Pareto smoothed importance sampling. JMLR 25, 2024.
        https://arxiv.org/abs/1507.02646
    """
    ordered = np.sort(log_weights, axis=0)
    ordered = np.exp(ordered - ordered[-1:])
    excess = ordered[1:] - ordered[:1]
    m = len(excess)
    if m < 5:
        return np.full(ordered.shape[1:], np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        count = 30 + int(np.sqrt(m))
        grid = 1.0 - np.sqrt(count / (np.arange(1, count + 1) - 0.5))
        quartile = excess[int(m / 4 + 0.5) - 1]
        theta = 1.0 / excess[-1] + grid[:, None] / (3.0 * quartile)
        k = np.log1p(-theta[:, None] * excess[None]).mean(axis=1)
        profile = m * (np.log(-theta / k) - k - 1.0)
        weights = 1.0 / np.exp(profile[None] - profile[:, None]).sum(axis=1)
        best = (theta * weights).sum(axis=0) / weights.sum(axis=0)
        k = np.log1p(-best * excess).mean(axis=0)
    k = (m * k + 10 * 0.5) / (m + 10)
    # Where most weights are negligible compared with the largest.
    k = np.where(quartile > 0, k, np.inf)
    return np.where(excess[-1] > 0, k, -np.inf)
