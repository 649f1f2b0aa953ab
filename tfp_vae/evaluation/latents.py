"""What a model does with its latent space: functions of a model and data.

All figures are in nats per example. Compare two models with the same function,
arguments and seed.
"""

import itertools
import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.checks import check_latent
from tfp_vae.distributions import factors, kl_divergence
from tfp_vae.entries import x_of
from tfp_vae.evaluation.batches import averages, batches, prepared
from tfp_vae.evaluation.compiled import compiled
from tfp_vae.evaluation.model import LatentModel, likelihood_of, prior_of
from tfp_vae.latents import draw, refuse_joint
from tfp_vae.objectives import ELBO
from tfp_vae.samples import as_one_batch
from tfp_vae.substrate import Tensor, samplers, tfd, tfp_seed

__all__ = [
    "ActiveUnits",
    "AggregatePosterior",
    "RateDistortion",
    "active_units",
    "aggregate_posterior",
    "coordinate_kl",
    "kl_per_dimension",
    "rate_distortion",
]

# What tells of the parts of joint latents.
_BY_PART = (
    "The logs of fit and evaluate have the KL of each part, kl_<part>, and "
    "predict has its mean."
)

# Coordinates of pairs (z, posterior) at a time: bounds the memory.
_PAIRS = 2**22


class ActiveUnits(NamedTuple):
    """Which latent coordinates distinguish examples.

    Attributes:
        variance: Var_x(E_q[z|x]) of each coordinate, `[*latent]`.
        active: whether it exceeds the threshold, `[*latent]`, bool.
        num_active: how many are active.
    """

    variance: np.ndarray
    active: np.ndarray
    num_active: int


class RateDistortion(NamedTuple):
    """The two terms of the ELBO, each `[N]`, in nats per example.

    Attributes:
        rate: KL(q(z|x) || p(z)).
        distortion: -E_q[log p(x|z)].
        elbo: -(rate + distortion).
    """

    rate: np.ndarray
    distortion: np.ndarray
    elbo: np.ndarray


class AggregatePosterior(NamedTuple):
    """The mean KL in two parts, in nats per example.

    Attributes:
        mutual_information: I_q(x; z), at most log N.
        mutual_information_error: its standard error.
        marginal_kl: KL(q(z) || p(z)).
        marginal_kl_error: its standard error.
    """

    mutual_information: float
    mutual_information_error: float
    marginal_kl: float
    marginal_kl_error: float


def coordinate_kl(
    posterior: tfd.Distribution,
    prior: tfd.Distribution,
    num_samples: int,
    seed: Tensor,
) -> Tensor:
    """KL(q(z_l|x) || p(z_l)) of each latent coordinate l.

    Args:
        posterior: q(z|x), of batch shape `[B]`, of independent coordinates.
        prior: p(z), of batch shape `[]` or `[B]`, of independent coordinates.
        num_samples: draws for each example, where no closed form is known.
        seed: of these draws, as TFP takes it.

    Returns:
        `[B, *latent]`, nats.

    Raises:
        ValueError: if the two do not fit together.
        NotImplementedError: if the coordinates of one are not independent.
    """
    refuse_joint(posterior, "The KL of each coordinate", _BY_PART)
    check_latent(posterior, prior, None)
    q, p = factors(posterior), factors(prior)
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        z = q.sample(num_samples, seed=seed)
        return ops.sum(q.log_prob(z) - p.log_prob(z), axis=0) / num_samples


def kl_per_dimension(
    vae: LatentModel,
    x: Any,
    num_samples: int = 100,
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
) -> np.ndarray:
    """KL(q(z_l|x) || p(z_l)) of each latent coordinate l.

    In closed form where one is known, otherwise by Monte Carlo. Its sum over
    the coordinates is the KL of the ELBO.

    Args:
        vae: a `VAE` whose posterior and prior have independent coordinates.
        x: data, as for `marginal_log_likelihood`.
        num_samples: draws for each example, where no closed form is known.
        batch_size: examples at a time.
        seed: an int for the same draws again, or None.
        verbose: whether to show the progress.

    Returns:
        `[N, *latent]`, nats per example.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, or a number is not positive.
        NotImplementedError: if the coordinates of the posterior or the prior
            are not independent.
    """
    examples = prepared(
        vae, x, support=False, num_samples=num_samples, batch_size=batch_size
    )

    (found,) = averages(_kl, vae, examples, num_samples, seed, verbose)
    return found


def _kl(
    vae: LatentModel, samples: int, x: Any, _: Tensor, noise: Tensor
) -> tuple[Tensor]:
    posterior = vae.encode(x)
    prior = prior_of(vae, posterior, x)
    return (coordinate_kl(posterior, prior, samples, noise),)


def active_units(
    vae: LatentModel, x: Any, threshold: float = 0.01, batch_size: int = 128
) -> ActiveUnits:
    """Latent coordinates whose posterior mean depends on the data.

    ```none
    coordinate l is active   if   Var_x(E_q[z_l|x]) > threshold
    ```

    The variance is over the N examples, in squared units of z: the usual
    threshold suits a prior of unit variance.

    Args:
        vae: a `VAE` whose posterior has a mean in closed form.
        x: data, as for `marginal_log_likelihood`.
        threshold: a variance.
        batch_size: examples at a time.

    Returns:
        `ActiveUnits`: the variances, which of them exceed the threshold, and
        how many.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, or a number is not positive.
        NotImplementedError: if the posterior has no mean.

    Reference:
        Burda, Grosse, Salakhutdinov. Importance weighted autoencoders. ICLR
        2016. https://arxiv.org/abs/1509.00519
    """
    examples = prepared(vae, x, support=False, batch_size=batch_size)

    (means,) = averages(_mean, vae, examples, 1, None, False)
    variance = means.var(axis=0)
    active = variance > threshold
    return ActiveUnits(variance, active, int(active.sum()))


def _mean(vae: LatentModel, _: int, x: Any, *__: Tensor) -> tuple[Tensor]:
    posterior = vae.encode(x)
    refuse_joint(posterior, "The number of active units", _BY_PART)
    return (posterior.mean(),)


def rate_distortion(
    vae: LatentModel,
    x: Any,
    num_samples: int = 100,
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
    y: Any = None,
) -> RateDistortion:
    """Rate, distortion and ELBO of each example.

    ```none
    R = KL(q(z|x) || p(z))     D = -E_q[log p(x|z)]     ELBO = -(R + D)
    ```

    Two models of the same ELBO may differ in how much z says about x: a model
    that ignores z has rate 0. The figures do not depend on the objective with
    which the model was trained.

    Args:
        vae: a `VAE`.
        x: data, as for `marginal_log_likelihood`.
        num_samples: draws of z for each example.
        batch_size: examples at a time.
        seed: an int for the same draws again, or None.
        verbose: whether to show the progress.
        y: the target, as for `marginal_log_likelihood`.

    Returns:
        `RateDistortion`, each `[N]`, nats per example. The distortion, and a
        rate without closed form, are averages over the draws.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, or a number is not positive.

    Reference:
        Alemi et al. Fixing a broken ELBO. ICML 2018.
        https://arxiv.org/abs/1711.00464
    """
    examples = prepared(
        vae, x, y, num_samples=num_samples, batch_size=batch_size
    )
    rate, distortion = averages(
        _rate_and_distortion, vae, examples, num_samples, seed, verbose
    )
    return RateDistortion(rate, distortion, -(rate + distortion))


def _rate_and_distortion(
    vae: LatentModel, samples: int, x: Any, y: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    posterior = vae.encode(x)
    z = draw(posterior, (samples,), noise, keep=True)
    terms = ELBO()(
        y,
        posterior=posterior,
        likelihood=likelihood_of(
            vae, as_one_batch(z), x, samples, samplers.fold_in(noise, 1)
        ),
        prior=prior_of(vae, posterior, x),
        z=z,
    )
    return terms.kl, -terms.log_likelihood


def aggregate_posterior(
    vae: LatentModel,
    x: Any,
    num_samples: int = 1,
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
) -> AggregatePosterior:
    """Splits the mean KL into mutual information and the KL of the marginal.

    ```none
    q(z) = 1 / N sum_n q(z|x_n)
    mean_n KL(q(z|x_n) || p(z)) = I_q(x; z) + KL(q(z) || p(z))
    I_q(x; z)        = mean_n E_q(z|x_n)[log q(z|x_n) - log q(z)]
    KL(q(z) || p(z)) = mean_n E_q(z|x_n)[log q(z) - log p(z)]
    ```

    The N examples count as the whole distribution of x, so that I_q is at most
    log N: near this bound z identifies each example, and I_q depends more on N
    than on the model. A large marginal KL means that draws from the prior lie
    where the decoder was never trained.

    Each draw is compared with all N posteriors, in O(N**2 * num_samples) time;
    memory is bounded, except for the draws, which are all kept.

    Args:
        vae: a `VAE`, of any posterior whose `log_prob` broadcasts.
        x: data, as for `marginal_log_likelihood`.
        num_samples: draws of z for each example.
        batch_size: posteriors at a time.
        seed: an int for the same draws again, or None.
        verbose: whether to show the progress.

    Returns:
        `AggregatePosterior`: Monte Carlo estimates, and their standard errors
        from the spread over the examples. The errors treat the N examples as
        draws, so they hold for other data of the same kind. They do not include
        the bias from the bound log N.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, a number is not positive, or there is one example.

    Reference:
        Hoffman, Johnson. ELBO surgery: yet another way to carve up the
        variational evidence lower bound. NIPS workshop 2016.
        http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
    """
    examples = prepared(
        vae, x, support=False, num_samples=num_samples, batch_size=batch_size
    )
    if (
        sum(len(x_of(rows[0])) for rows in itertools.islice(examples.rows(), 2))
        < 2
    ):
        raise ValueError(
            "Mutual information is between z and the index of one of several "
            "examples. Received: 1 example."
        )
    batch_size = examples.size

    draw = compiled(_draw, vae, num_samples)
    log_sum = compiled(_log_sum, vae)
    generator = keras.random.SeedGenerator(seed)
    drawn: list[list[np.ndarray]] = []
    for batch in examples:
        drawn.append(
            [
                ops.convert_to_numpy(term)[:, : batch.found]
                for term in draw(batch.x, tfp_seed(generator))
            ]
        )
    z, log_posterior, log_prior = (
        np.concatenate(terms, axis=1) for terms in zip(*drawn, strict=True)
    )
    count = z.shape[1]
    z = z.reshape(-1, *z.shape[2:])

    block = _PAIRS // (batch_size * math.prod(z.shape[1:]))
    block = min(max(block, 1), len(z))
    log_marginal = np.full(len(z), -np.inf)
    progress = keras.utils.Progbar(
        count, verbose=int(verbose), unit_name="posterior"
    )
    for batch in examples:
        found = ops.convert_to_tensor(batch.found)
        start = 0
        for some, drawn_here in batches(z, block):
            term = log_sum(batch.x, found, some)
            part = slice(start, start + drawn_here)
            log_marginal[part] = np.logaddexp(
                log_marginal[part], ops.convert_to_numpy(term)[:drawn_here]
            )
            start += drawn_here
        progress.add(batch.found)
    log_marginal = log_marginal.reshape(num_samples, -1) - np.log(count)

    def mean_and_error(terms: np.ndarray) -> tuple[float, float]:
        each = terms.mean(axis=0)
        return each.mean(), each.std(ddof=1) / np.sqrt(len(each))

    return AggregatePosterior(
        *mean_and_error(log_posterior - log_marginal),
        *mean_and_error(log_marginal - log_prior),
    )


def _draw(
    vae: LatentModel, samples: int, x: Any, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """z, `[S, B, *latent]`, with log q(z|x) and log p(z), `[S, B]`."""
    posterior = vae.encode(x)
    prior = prior_of(vae, posterior, x)
    refuse_joint(posterior, "The aggregate posterior", _BY_PART)
    check_latent(posterior, prior, None)
    z = posterior.sample(samples, seed=noise)
    return z, posterior.log_prob(z), prior.log_prob(z)


def _log_sum(vae: LatentModel, x: Any, found: Tensor, z: Tensor) -> Tensor:
    """log sum_b q(z|x_b) over the found examples, `[len(z)]`.

    x is encoded again for each block of z, since the parameters of a
    distribution cannot in general be kept and split.
    """
    log_prob = vae.encode(x).log_prob(ops.expand_dims(z, 1))
    log_prob = ops.where(
        ops.arange(x_of(x).shape[0]) < found, log_prob, -np.inf
    )
    return ops.logsumexp(log_prob, axis=1)
