"""Bidirectional Monte Carlo: how tight annealed importance sampling is."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.observed import complete
from tfp_vae.entries import with_x, x_of
from tfp_vae.evaluation.chains import (
    PILOTS,
    Problem,
    Settings,
    each_batch,
    examples_for,
    log_mean,
)
from tfp_vae.evaluation.compiled import compiled
from tfp_vae.evaluation.model import LatentModel, likelihood_of
from tfp_vae.substrate import Tensor, ps, samplers

__all__ = ["BidirectionalBounds", "bidirectional_bounds"]


class BidirectionalBounds(NamedTuple):
    """Bounds of log p(x) of simulated data, each `[N]`, in nats.

    Attributes:
        lower: by chains to the exact posterior; below log p(x) on average.
        upper: by chains from the exact posterior; above log p(x) on average.
    """

    lower: np.ndarray
    upper: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """upper - lower: on average at least the error of `lower`."""
        return self.upper - self.lower


def bidirectional_bounds(
    vae: LatentModel,
    x: Any,
    num_steps: int = 1000,
    num_chains: int = 16,
    step_size: float = 0.5,
    num_leapfrog_steps: int = 5,
    initial: str = "posterior",
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
) -> BidirectionalBounds:
    """How tight annealed importance sampling is, on data that the model drew.

    ```none
    z*, x* ~ p(z) p(x|z)
    lower:  log p(x*) ~  log(1 / C sum_c w_c),  chains from f_0 to p(z) p(x*|z)
    upper:  log p(x*) ~ -log(1 / C sum_c v_c),  chains from z* back to f_0
    ```

    z* is a draw from the exact p(z|x*), so that chains can also go backwards
    from it: 1 / v estimates p(x*) from above. On average the gap between the
    two is at least the error of each. It shows which settings of
    `annealed_importance_sampling` can be trusted for this model, but says
    nothing about data that the model would not draw.

    Args:
        vae: as for `annealed_importance_sampling`.
        x: data, `[N, *event]`: equally many examples of the same shape are
            drawn. A conditional prior takes its conditions from them.
        num_steps: T, as for `annealed_importance_sampling`.
        num_chains: C, for each example and direction.
        step_size: as for `annealed_importance_sampling`.
        num_leapfrog_steps: for each proposal.
        initial: f_0, `"posterior"` for q(z|x*) or `"prior"` for p(z).
        batch_size: examples at a time, fewer for many chains.
        seed: an int for the same bounds again, or None.
        verbose: whether to show the progress.

    Returns:
        `BidirectionalBounds`: for each of N examples a lower and an upper bound
        of log p(x*) in nats, and as `gap` their difference.

    Raises:
        TypeError, ValueError: see `annealed_importance_sampling`.

    References:
        Grosse, Ghahramani, Adams. Sandwiching the marginal likelihood using
        bidirectional Monte Carlo. 2015. https://arxiv.org/abs/1511.02543
    """
    settings = Settings(
        num_steps, num_chains, step_size, num_leapfrog_steps, initial
    )
    examples = examples_for(vae, x, None, settings, batch_size)

    chains = compiled(_chains, vae, settings)
    parts = [
        (log_mean(forward)[0], -log_mean(backward)[0])
        for forward, backward in each_batch(chains, examples, seed, verbose)
    ]
    return BidirectionalBounds(*map(np.concatenate, zip(*parts, strict=True)))


def _chains(
    vae: LatentModel, settings: Settings, x: Any, _: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Log weights of the chains there and back, `[C, B]`."""
    seeds = samplers.split_seed(noise, 6)
    template = Problem.of(vae, x, "prior")
    exact = keras.tree.map_structure(
        lambda part: part[0], template.draw(1, seeds[0])
    )
    data = complete(likelihood_of(vae, exact, x)).sample(seed=seeds[1])
    drawn = with_x(x, ops.cast(data, x_of(x).dtype))
    problem = Problem.of(vae, drawn, settings.initial)
    joint_log_prob = problem.joint_log_prob(data)
    start, width = problem.start_log_prob, problem.width(seeds[2])
    rows = PILOTS + settings.num_chains
    z = problem.draw(rows, seeds[3])
    backwards = keras.tree.map_structure(
        lambda part: ops.broadcast_to(part[None], (rows, *ps.shape(part))),
        exact,
    )
    return (
        settings.run(start, joint_log_prob, z, width, seeds[4])[0],
        settings.run(joint_log_prob, start, backwards, width, seeds[5])[0],
    )
