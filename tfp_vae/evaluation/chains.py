"""Chains of annealed importance sampling between any two densities."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.checks import check_latent
from tfp_vae.entries import x_of
from tfp_vae.evaluation.batches import ROWS, Examples, prepared
from tfp_vae.evaluation.model import LatentModel, likelihood_of, prior_of
from tfp_vae.latents import draw, has_batch, log_prob
from tfp_vae.samples import as_one_batch, log_likelihood_of_samples
from tfp_vae.substrate import Tensor, samplers, tfd, tfp, tfp_seed

__all__ = [
    "PILOTS",
    "Problem",
    "Settings",
    "each_batch",
    "examples_for",
    "log_mean",
]

# An acceptance rate at which Hamiltonian Monte Carlo is efficient, and how fast
# the step size adapts to it: by a factor of two in some twenty updates.
_ACCEPTANCE = 0.75
_ADAPTATION_RATE = 0.05

# The sigmoid of the powers runs from minus this to plus this.
_SIGMOID_TO = 5.0

#: Additional chains, from which the step size is learned: if it depended on the
#: other chains, their weights would be biased.
PILOTS = 4

# Draws that estimate the width of the initial distribution.
_WIDTH_SAMPLES = 64


class _State(NamedTuple):
    """State of `_Annealed`: that of the inner kernel, and a sum over steps."""

    inner_results: Any
    accepted: Tensor


class _Annealed(tfp.mcmc.TransitionKernel):
    """Hamiltonian Monte Carlo of adaptive step size on a changing target.

    It adds up the acceptance probabilities, and it computes the density where a
    step begins: TFP would pass on the value under the previous distribution,
    and the acceptance would be wrong.
    """

    def __init__(self, inner: tfp.mcmc.SimpleStepSizeAdaptation) -> None:
        self._inner = inner

    @property
    def is_calibrated(self) -> bool:
        return self._inner.is_calibrated

    def one_step(
        self, current_state: Any, previous: _State, seed: Any = None
    ) -> tuple[Any, _State]:
        begin = self._inner.bootstrap_results(current_state)
        state, results = self._inner.one_step(
            current_state,
            previous.inner_results._replace(inner_results=begin.inner_results),
            seed=seed,
        )
        ratio = results.inner_results.log_accept_ratio
        accepted = previous.accepted + ops.exp(ops.minimum(ratio, 0.0))
        return state, _State(results, accepted)

    def bootstrap_results(self, init_state: Any) -> _State:
        results = self._inner.bootstrap_results(init_state)
        return _State(
            results, ops.zeros_like(results.inner_results.log_accept_ratio)
        )


class Settings(NamedTuple):
    """The arguments of a chain, as the user gave them."""

    num_steps: int
    num_chains: int
    step_size: float
    num_leapfrog_steps: int
    initial: str

    def check(self) -> None:
        """Refuses invalid settings.

        Raises:
            ValueError: if there is only one chain, the step size is not
                positive, or `initial` is unknown.
        """
        if self.initial not in ("posterior", "prior"):
            raise ValueError(
                'initial is "posterior" or "prior". Received: '
                f"initial={self.initial!r}."
            )
        if self.num_chains < 2 or not self.step_size > 0:
            raise ValueError(
                "A standard error takes two chains or more, and a step size is "
                f"positive. Received: num_chains={self.num_chains}, "
                f"step_size={self.step_size}."
            )

    def run(
        self,
        first: Callable[[Any], Tensor],
        last: Callable[[Any], Tensor],
        z: Any,
        width: Any,
        seed: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Log weights and acceptance rates of chains between two densities.

        Args:
            first: the log density from which z was drawn, up to a constant.
            last: the log density of the end.
            z: `[pilots + chains, B, *latent]`, by part.
            width: the unit of the step size, `[B, *latent]`, by part.
            seed: for the proposals.

        Returns:
            Two tensors `[chains, B]`.
        """

        def whole(parts: Any) -> Any:
            return keras.tree.pack_sequence_as(z, parts)

        # TFP knows a list of parts.
        states = keras.tree.flatten(z)
        widths = [self.step_size * part for part in keras.tree.flatten(width)]

        def kernel(log_prob: Callable[..., Tensor]) -> _Annealed:
            return _Annealed(
                tfp.mcmc.SimpleStepSizeAdaptation(
                    tfp.mcmc.HamiltonianMonteCarlo(
                        log_prob,
                        widths,
                        self.num_leapfrog_steps,
                    ),
                    num_adaptation_steps=self.num_steps,
                    target_accept_prob=_ACCEPTANCE,
                    adaptation_rate=_ADAPTATION_RATE,
                    log_accept_prob_getter_fn=lambda results: ops.minimum(
                        results.log_accept_ratio[:PILOTS], 0.0
                    ),
                )
            )

        powers = ops.convert_to_tensor(self.powers(), states[0].dtype)

        def density(t: Tensor) -> Callable[..., Tensor]:
            power = ops.take(powers, t)
            return lambda *z: (
                (1.0 - power) * first(whole(z)) + power * last(whole(z))
            )

        def step(t: Tensor, state: tuple[Any, ...]) -> tuple[Any, ...]:
            z, log_weights, results, seed = state
            seed, seed_now = ops.unstack(samplers.split_seed(seed, 2), 2)
            rise = ops.take(powers, t + 1) - ops.take(powers, t)
            moved = last(whole(z)) - first(whole(z))
            log_weights = log_weights + rise * moved
            z, results = kernel(density(t + 1)).one_step(
                z, results, seed=seed_now
            )
            return z, log_weights, results, seed

        results = kernel(density(0)).bootstrap_results(states)
        zeros = ops.zeros_like(results.accepted)
        _, log_weights, results, _ = ops.fori_loop(
            0, self.num_steps, step, (states, zeros, results, seed)
        )
        acceptance = results.accepted / self.num_steps
        return log_weights[PILOTS:], acceptance[PILOTS:]

    def powers(self) -> np.ndarray:
        """The power of the last density after each step, `[T + 1]`.

        A sigmoid from 0 to 1, slow at both ends, where the powers of two
        densities of very different widths must change slowly.
        """
        time = np.linspace(-_SIGMOID_TO, _SIGMOID_TO, self.num_steps + 1)
        sigmoid = 1.0 / (1.0 + np.exp(-time))
        return (sigmoid - sigmoid[0]) / (sigmoid[-1] - sigmoid[0])


class Problem(NamedTuple):
    """The distributions between which the chains of a batch run."""

    model: LatentModel
    #: `[B, *event]`, or a dict of it and of conditions.
    x: Any
    posterior: tfd.Distribution
    prior: tfd.Distribution
    start: tfd.Distribution
    #: Of draws: with a prior of batch shape `[]` each example has its own.
    shape: list[int]

    @classmethod
    def of(cls, model: LatentModel, x: Any, initial: str) -> "Problem":
        """The problem of a model and examples.

        Args:
            model: encodes examples and has a prior.
            x: `[B, *event]`, or a dict of it and of conditions.
            initial: `"posterior"` or `"prior"`.

        Returns:
            The distributions that the chains run between.
        """
        posterior = model.encode(x)
        prior = prior_of(model, posterior, x)
        check_latent(posterior, prior, None)
        start = posterior if initial == "posterior" else prior
        shape = [] if has_batch(start) else [x_of(x).shape[0]]
        return cls(model, x, posterior, prior, start, shape)

    def joint_log_prob(self, data: Tensor) -> Callable[[Any], Tensor]:
        """log p(z) + log p(x|z) as a function of z.

        Args:
            data: x, `[B, *event]`, as the likelihood takes it.

        Returns:
            A function from `[C, B, *latent]`, by part, to `[C, B]`, nats.
        """

        def both(z: Any) -> Tensor:
            chains = keras.tree.flatten(z)[0].shape[0]
            likelihood = likelihood_of(
                self.model, as_one_batch(z), self.x, chains
            )
            return log_prob(self.prior, z) + log_likelihood_of_samples(
                data, likelihood, chains
            )

        return both

    def width(self, seed: Tensor) -> Any:
        """The standard deviation of the start, `[B, *latent]`, by part."""
        draws = self.draw(_WIDTH_SAMPLES, seed)
        return keras.tree.map_structure(lambda a: ops.std(a, axis=0), draws)

    def draw(self, count: int, seed: Tensor) -> Any:
        """Draws from the start, `[count, B, *latent]`, by part."""
        return draw(self.start, (count, *self.shape), seed)

    def start_log_prob(self, z: Any) -> Tensor:
        """The log density of the start, `[C, B]`."""
        return log_prob(self.start, z)


def examples_for(
    vae: LatentModel, x: Any, y: Any, settings: Settings, batch_size: int
) -> Examples:
    """Data as the chains take them: see `annealed_importance_sampling`."""
    settings.check()
    if getattr(vae, "missing_model", None) is not None:
        raise NotImplementedError(
            "Annealed importance sampling moves only z, but a missing_model "
            "needs draws of what is missing. Take "
            "marginal_log_likelihood(). Received: a model with a missing_model."
        )
    examples = prepared(
        vae,
        x,
        y,
        num_steps=settings.num_steps,
        num_leapfrog_steps=settings.num_leapfrog_steps,
        batch_size=batch_size,
    )
    examples.limit(ROWS // (PILOTS + settings.num_chains))
    return examples


def each_batch(
    chains: Callable[..., tuple[Tensor, ...]],
    examples: Examples,
    seed: int | None,
    verbose: bool,
) -> Iterator[list[np.ndarray]]:
    """The arrays `[chains, B]` of each batch, in float64."""
    generator = keras.random.SeedGenerator(seed)
    progress = keras.utils.Progbar(
        examples.count, verbose=int(verbose), unit_name="example"
    )
    for batch in examples:
        yield [
            ops.convert_to_numpy(term)[:, : batch.found].astype("float64")
            for term in chains(batch.x, batch.y, tfp_seed(generator))
        ]
        progress.add(batch.found)


def log_mean(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm of the mean over the chains, and its standard error."""
    largest = log_weights.max(axis=0)
    weights = np.exp(log_weights - largest)
    mean = weights.mean(axis=0)
    error = weights.std(axis=0, ddof=1) / (mean * np.sqrt(len(weights)))
    return largest + np.log(mean), error
