"""Annealed importance sampling of log p(x): expensive, if others fail."""

from typing import Any, NamedTuple

import keras
import numpy as np

from tfp_vae.checks import check_likelihood, in_dtype_of
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
from tfp_vae.latents import draw, log_prob
from tfp_vae.substrate import Tensor, samplers
from tfp_vae.warn import warn_user

__all__ = ["AnnealedLogLikelihood", "annealed_importance_sampling"]

# Signs of a bad estimate. A lower bound that exceeds the estimate by so many
# nats: it exceeds log p(x) itself with probability exp(-5) at most (Markov's
# inequality). A share of the chains below this that has all of the weight. An
# acceptance rate below this. Then the share of examples that causes a warning.
_NATS_BELOW = 5.0
_LEAST_SHARE_OF_CHAINS = 0.25
_LEAST_ACCEPTANCE = 0.4
_SHARE_WARNED_OF = 0.1


class AnnealedLogLikelihood(NamedTuple):
    """Estimates of log p(x), each `[N]`.

    Attributes:
        log_likelihood: nats per example.
        standard_error: of `log_likelihood`, in nats, from the spread of the
            chains' weights, by the delta method.
        acceptance_rate: of the proposals, over all steps and chains.
        effective_sample_size: (sum w)**2 / sum w**2 of the chains' weights,
            from 1, if one chain has all the weight, to their number.
        importance_bound: log p(x) by importance sampling from q(z|x) with as
            many draws as there are chains: a lower bound on average, in nats; a
            good estimate is not below it.
    """

    log_likelihood: np.ndarray
    standard_error: np.ndarray
    acceptance_rate: np.ndarray
    effective_sample_size: np.ndarray
    importance_bound: np.ndarray


def annealed_importance_sampling(
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
    y: Any = None,
) -> AnnealedLogLikelihood:
    """Estimates log p(x) by chains from a known distribution to p(z|x).

    ```none
    f_t(z) = f_0(z)**(1 - b_t) * (p(z) p(x|z))**b_t
    log w  = sum_t log f_t(z_(t-1)) - log f_(t-1)(z_(t-1))
    log p(x) ~ log(1 / C sum_c w_c)
    ```

    where z_t is a step of Hamiltonian Monte Carlo on f_t from z_(t-1), and b_t
    rises from 0 to 1 along a sigmoid, slowly at both ends. Use it where the
    `pareto_k` of `VAE.marginal_log_likelihood` says that the posterior does not
    cover enough: chains find what the encoder misses. The estimate is a lower
    bound on average and becomes tight as T grows, for both f_0.

    The chains start from q(z|x), which is closer to the target, even if the
    encoder is bad: from the prior, which may be hundreds of nats away, the
    default number of steps can be far too small. But with the prior the
    estimate does not depend on the encoder.

    It costs `num_steps * (num_leapfrog_steps + 2)` forward and backward passes
    of the decoder, with `num_chains + 4` rows for each example: four more
    chains serve to learn the step size of the others. Limits: chains do not
    cross between modes far apart, so mass that none of them finds is missing
    from the estimate and from its standard error. If there are few chains and
    their weights spread over more than a few nats, the standard error is too
    small, and the estimate too low: raise `num_steps` until both are stable.

    A warning says when more than a tenth of the examples cannot be trusted:
    their estimate lies below `importance_bound` by more than 5 nats,
    `effective_sample_size` is below a quarter of the chains, or
    `acceptance_rate` below 0.4. `bidirectional_bounds` shows how tight the
    estimates of this model are.

    Args:
        vae: a `VAE`, or any other `LatentModel`, whose latent variables are
            continuous, without bounds.
        x: data, as for `marginal_log_likelihood`.
        num_steps: T, distributions from the initial one to the posterior.
        num_chains: C, for each example.
        step_size: of the first leapfrog steps, as a multiple of the standard
            deviation of the initial distribution in each coordinate. For each
            example it then adapts to an acceptance rate of about 0.75.
        num_leapfrog_steps: for each proposal.
        initial: f_0, `"posterior"` for q(z|x) or `"prior"` for p(z).
        batch_size: examples at a time, fewer for many chains.
        seed: an int for the same estimate again, or None.
        verbose: whether to show the progress.
        y: the target, as for `marginal_log_likelihood`.

    Returns:
        `AnnealedLogLikelihood`: for each example the estimate in nats, its
        standard error over the chains, the acceptance rate, the effective
        number of chains, and an importance-sampled bound to compare with.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, a number is not positive, there is only one chain,
            or `initial` is neither of the two.
        NotImplementedError: for a model with a `missing_model`.

    References:
        Neal. Annealed importance sampling. Statistics and Computing 11, 2001.
        https://arxiv.org/abs/physics/9803008
        Wu, Burda, Salakhutdinov, Grosse. On the quantitative analysis of
        decoder-based generative models. ICLR 2017.
        https://arxiv.org/abs/1611.04273
    """
    settings = Settings(
        num_steps, num_chains, step_size, num_leapfrog_steps, initial
    )
    examples = examples_for(vae, x, y, settings, batch_size)

    chains = compiled(_chains, vae, settings)
    parts = []
    for terms in each_batch(chains, examples, seed, verbose):
        log_weights, acceptance, plain = terms
        parts.append(
            (
                *log_mean(log_weights),
                acceptance.mean(axis=0),
                _effective_size(log_weights),
                log_mean(plain)[0],
            )
        )
    found = AnnealedLogLikelihood(
        *map(np.concatenate, zip(*parts, strict=True))
    )
    _warn_of_bad(found, settings)
    return found


def _chains(
    vae: LatentModel, settings: Settings, x: Any, y: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """log w and the acceptance of each chain, and plain weights, `[C, B]`."""
    problem = Problem.of(vae, x, settings.initial)
    seeds = samplers.split_seed(noise, 4)
    z = problem.draw(PILOTS + settings.num_chains, seeds[1])
    one = keras.tree.map_structure(lambda part: part[0], z)
    likelihood = likelihood_of(vae, one, x)
    check_likelihood(likelihood, y, None)
    joint_log_prob = problem.joint_log_prob(in_dtype_of(likelihood, y))
    posterior = problem.posterior
    encoded = draw(posterior, (settings.num_chains,), seeds[3], keep=True)
    return (
        *settings.run(
            problem.start_log_prob,
            joint_log_prob,
            z,
            problem.width(seeds[0]),
            seeds[2],
        ),
        joint_log_prob(encoded) - log_prob(posterior, encoded),
    )


def _effective_size(log_weights: np.ndarray) -> np.ndarray:
    """(sum w)**2 / sum w**2 over the chains."""
    weights = np.exp(log_weights - log_weights.max(axis=0))
    return weights.sum(axis=0) ** 2 / (weights**2).sum(axis=0)


def _warn_of_bad(found: AnnealedLogLikelihood, settings: Settings) -> None:
    """Warns where the estimates of many examples cannot be trusted."""
    least_size = _LEAST_SHARE_OF_CHAINS * settings.num_chains
    signs = {
        f"more than {_NATS_BELOW:g} nats below importance_bound": (
            found.log_likelihood < found.importance_bound - _NATS_BELOW
        ),
        f"an effective_sample_size below {least_size:g}": (
            found.effective_sample_size < least_size
        ),
        f"an acceptance_rate below {_LEAST_ACCEPTANCE:g}": (
            found.acceptance_rate < _LEAST_ACCEPTANCE
        ),
    }
    if np.any(list(signs.values()), axis=0).mean() <= _SHARE_WARNED_OF:
        return
    counts = [
        f"{sign} in {bad.mean():.0%}"
        for sign, bad in signs.items()
        if bad.any()
    ]
    other = "posterior" if settings.initial == "prior" else "prior"
    warn_user(
        "An estimate of log p(x) by annealing can be trusted where it is above "
        "an importance-sampled one, several chains share the weight, and "
        "proposals are accepted. Received: "
        + ", ".join(counts)
        + f" of {len(found.log_likelihood)} examples: the estimates are too "
        "low. Take more steps than "
        f'num_steps={settings.num_steps}, or initial="{other}".'
    )
