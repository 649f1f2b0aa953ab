"""Annealed importance sampling of log p(x): expensive, when others fail."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.checks import check_latent, check_likelihood, in_dtype_of
from tfp_vae.evaluation.batches import ROWS, prepared
from tfp_vae.evaluation.compiled import compiled
from tfp_vae.evaluation.joint import joint_of
from tfp_vae.evaluation.model import LatentModel, likelihood_of, prior_of
from tfp_vae.substrate import Tensor, samplers, tfd, tfp, tfp_seed

__all__ = ["AnnealedLogLikelihood", "annealed_importance_sampling"]

# The middle of the range in which Hamiltonian Monte Carlo is efficient, and how
# fast the step size goes there: twofold in some twenty updates.
_ACCEPTANCE = 0.75
_ADAPTATION_RATE = 0.05

# Chains beside the others, from which the step size is learned: the others, if
# it depended on where they are, would have biased weights.
_PILOTS = 4

# Draws from which the width of the initial distribution is taken.
_WIDTH_SAMPLES = 64


class AnnealedLogLikelihood(NamedTuple):
    """Estimates of log p(x), each `[N]`.

    Attributes:
        log_likelihood: nats per example.
        standard_error: of `log_likelihood`, in nats, from the spread of the
            chains' weights, by the delta method.
        acceptance_rate: of the proposals, over all steps and chains.
    """

    log_likelihood: np.ndarray
    standard_error: np.ndarray
    acceptance_rate: np.ndarray


class _State(NamedTuple):
    """State of `_Annealed`: that of the kernel within, and a sum over steps."""

    inner_results: Any
    accepted: Tensor


class _Annealed(tfp.mcmc.TransitionKernel):
    """Hamiltonian Monte Carlo, of adapting step size, on a moving target.

    It adds up the acceptance probabilities, and it works out the density where
    a step begins: TFP hands on what the last step found under the distribution
    before, on which the acceptance would go wrong.
    """

    def __init__(self, inner: tfp.mcmc.SimpleStepSizeAdaptation) -> None:
        self._inner = inner

    @property
    def is_calibrated(self) -> bool:
        return self._inner.is_calibrated

    def one_step(
        self, current_state: Tensor, previous: _State, seed: Any = None
    ) -> tuple[Tensor, _State]:
        begin = self._inner.bootstrap_results(current_state)
        state, results = self._inner.one_step(
            current_state,
            previous.inner_results._replace(inner_results=begin.inner_results),
            seed=seed,
        )
        ratio = results.inner_results.log_accept_ratio
        accepted = previous.accepted + ops.exp(ops.minimum(ratio, 0.0))
        return state, _State(results, accepted)

    def bootstrap_results(self, init_state: Tensor) -> _State:
        results = self._inner.bootstrap_results(init_state)
        return _State(
            results, ops.zeros_like(results.inner_results.log_accept_ratio)
        )


def annealed_importance_sampling(
    vae: LatentModel,
    x: Any,
    num_steps: int = 1000,
    num_chains: int = 16,
    step_size: float = 0.5,
    num_leapfrog_steps: int = 5,
    initial: str = "prior",
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
    y: Any = None,
) -> AnnealedLogLikelihood:
    """Estimates log p(x) by chains from a known distribution to p(z|x).

    ```none
    f_t(z) = f_0(z)**(1 - t / T) * (p(z) p(x|z))**(t / T)
    log w  = sum_t log f_t(z_(t-1)) - log f_(t-1)(z_(t-1))
    log p(x) ~ log(1 / C sum_c w_c)
    ```

    where z_t is a step of Hamiltonian Monte Carlo on f_t from z_(t-1). For when
    the `pareto_k` of `VAE.marginal_log_likelihood` says that the posterior does
    not cover enough: chains find what the encoder misses. From the prior, the
    encoder has no part in it, and two decoders compare by themselves. A lower
    bound on average, tight as T grows.

    It costs `num_steps * (num_leapfrog_steps + 2)` passes through the decoder
    and back, with `num_chains + 4` rows for each example: four more chains, of
    which the step size of the others is learned. Limits: chains do not
    cross between modes far apart, so mass that none of them finds is missing
    from the estimate and from its standard error; weights of few chains that
    spread over more than a few nats give a standard error that is too small,
    and an estimate that is too low: raise `num_steps` until both stay.

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
        initial: f_0, `"prior"` for p(z), or `"posterior"` for q(z|x), which is
            nearer to the end if the encoder is good.
        batch_size: examples at a time, fewer for many chains.
        seed: an int for the same estimate again, or None.
        verbose: whether to show the progress.
        y: the target, as for `marginal_log_likelihood`.

    Returns:
        `AnnealedLogLikelihood`: for each example the estimate in nats, its
        standard error over the chains, and the acceptance rate: where this is
        far from 0.75, do not believe the first two.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, a number is not positive, there is only one chain, or
            `initial` is another word.
        NotImplementedError: for a model with a `missing_model`.

    References:
        Neal. Annealed importance sampling. Statistics and Computing 11, 2001.
        https://arxiv.org/abs/physics/9803008
        Wu, Burda, Salakhutdinov, Grosse. On the quantitative analysis of
        decoder-based generative models. ICLR 2017.
        https://arxiv.org/abs/1611.04273
    """
    if initial not in ("posterior", "prior"):
        raise ValueError(
            f'initial is "posterior" or "prior". Received: initial={initial!r}.'
        )
    if getattr(vae, "missing_model", None) is not None:
        raise NotImplementedError(
            "Annealed importance sampling moves z alone, and a missing_model "
            "is asked with draws of what is missing. Take "
            "marginal_log_likelihood(). Received: a model with a missing_model."
        )
    if num_chains < 2 or not step_size > 0:
        raise ValueError(
            "A standard error takes two chains or more, and a step size is "
            f"positive. Received: num_chains={num_chains}, "
            f"step_size={step_size}."
        )
    examples = prepared(
        vae,
        x,
        y,
        num_steps=num_steps,
        num_leapfrog_steps=num_leapfrog_steps,
        batch_size=batch_size,
    )
    examples.limit(ROWS // (_PILOTS + num_chains))

    chains = compiled(
        _chains,
        vae,
        num_steps,
        num_chains,
        step_size,
        num_leapfrog_steps,
        initial,
    )
    generator = keras.random.SeedGenerator(seed)
    progress = keras.utils.Progbar(
        examples.count, verbose=int(verbose), unit_name="example"
    )
    parts = []
    for batch in examples:
        log_weights, acceptance = (
            ops.convert_to_numpy(term)[:, : batch.found].astype("float64")
            for term in chains(batch.x, batch.y, tfp_seed(generator))
        )
        parts.append((*_log_mean(log_weights), acceptance.mean(axis=0)))
        progress.add(batch.found)
    return AnnealedLogLikelihood(*map(np.concatenate, zip(*parts, strict=True)))


def _chains(
    vae: LatentModel,
    num_steps: int,
    num_chains: int,
    step_size: float,
    num_leapfrog_steps: int,
    initial: str,
    x: Any,
    y: Tensor,
    noise: Tensor,
) -> tuple[Tensor, Tensor]:
    """log w and the acceptance rate of each chain, `[C, B]`."""
    posterior = vae.encode(x)
    prior = prior_of(vae, posterior, x)
    size = y.shape[0]

    def decode(z: Tensor) -> tfd.Distribution:
        rows = z.shape[0]
        # TFP asks for shapes first, by one z.
        some = keras.tree.map_structure(lambda a: a[:rows], x)
        return likelihood_of(vae, z, some, max(rows // size, 1))

    joint = joint_of(prior, decode)
    check_latent(posterior, prior, None)
    start = posterior if initial == "posterior" else prior
    # Also of a prior for all, each example has draws of its own.
    shape = [] if tuple(start.batch_shape) else [size]
    width_seed, start_seed, chain_seed = samplers.split_seed(noise, 3)
    width = ops.std(
        start.sample([_WIDTH_SAMPLES, *shape], seed=width_seed), axis=0
    )
    z = start.sample([_PILOTS + num_chains, *shape], seed=start_seed)
    likelihood = likelihood_of(vae, z[0], x)
    check_likelihood(likelihood, y, None)
    data = in_dtype_of(likelihood, y)

    def kernel(log_prob: Callable[[Tensor], Tensor]) -> _Annealed:
        return _Annealed(
            tfp.mcmc.SimpleStepSizeAdaptation(
                tfp.mcmc.HamiltonianMonteCarlo(
                    log_prob, step_size * width, num_leapfrog_steps
                ),
                num_adaptation_steps=num_steps,
                target_accept_prob=_ACCEPTANCE,
                adaptation_rate=_ADAPTATION_RATE,
                log_accept_prob_getter_fn=lambda results: ops.minimum(
                    results.log_accept_ratio[:_PILOTS], 0.0
                ),
            )
        )

    _, log_weights, results = tfp.mcmc.sample_annealed_importance_chain(
        num_steps,
        proposal_log_prob_fn=start.log_prob,
        target_log_prob_fn=lambda z: joint.log_prob(z=z, x=data),
        current_state=z,
        make_kernel_fn=kernel,
        seed=chain_seed,
    )
    acceptance = results.inner_results.accepted / num_steps
    return log_weights[_PILOTS:], acceptance[_PILOTS:]


def _log_mean(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm of the mean over the chains, and its standard error."""
    largest = log_weights.max(axis=0)
    weights = np.exp(log_weights - largest)
    mean = weights.mean(axis=0)
    error = weights.std(axis=0, ddof=1) / (mean * np.sqrt(len(weights)))
    return largest + np.log(mean), error
