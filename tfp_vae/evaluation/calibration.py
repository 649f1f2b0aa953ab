"""How well a model predicts data: bits, and whether its spread is right."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfp_vae.checks import check_likelihood, in_dtype_of
from tfp_vae.distributions.factors import factors
from tfp_vae.distributions.observed import complete, is_missing
from tfp_vae.entries import x_of
from tfp_vae.evaluation.batches import averages, prepared
from tfp_vae.evaluation.importance import marginal_log_likelihood
from tfp_vae.evaluation.model import LatentModel, likelihood_of, marker_of
from tfp_vae.latents import draw
from tfp_vae.samples import as_one_batch, copies
from tfp_vae.substrate import Tensor, is_discrete
from tfp_vae.training.data import observed

__all__ = [
    "BitsPerDimension",
    "ProbabilityIntegralTransform",
    "bits_per_dimension",
    "probability_integral_transform",
]

_BINS = 10


class BitsPerDimension(NamedTuple):
    """Estimates of -log2 p(x) / D, each `[N]`.

    Attributes:
        bits: bits per dimension, D the number of elements of an example.
        standard_error: of `bits`.
        pareto_k: see `MarginalLogLikelihood`: above 0.7 neither of the two can
            be trusted.
    """

    bits: np.ndarray
    standard_error: np.ndarray
    pareto_k: np.ndarray


class ProbabilityIntegralTransform(NamedTuple):
    """Where data lie in the distributions that are predicted for them.

    Attributes:
        values: of each element, `[N, *event]`, in (0, 1).
        distance: the Kolmogorov-Smirnov distance of all values from the
            uniform distribution.
        histogram: how many of all values fall in each tenth of (0, 1), `[10]`.
    """

    values: np.ndarray
    distance: float
    histogram: np.ndarray


def bits_per_dimension(
    vae: LatentModel,
    x: Any,
    num_samples: int = 100,
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
    y: Any = None,
) -> BitsPerDimension:
    """The bits that an ideal code of the model needs for an element of x.

    ```none
    -log p(x) / (D log 2)
    ```

    with log p(x) by importance sampling, so that the bits are an upper bound on
    average. D is the number of elements that were observed.

    Args:
        vae: a `VAE` of a discrete likelihood.
        x: data, as for `marginal_log_likelihood`.
        num_samples: draws of z for each example.
        batch_size: examples at a time.
        seed: an int for the same estimate again, or None.
        verbose: whether to show the progress.
        y: the target, as for `marginal_log_likelihood`.

    Returns:
        `BitsPerDimension`, each `[N]`: NaN where nothing was observed.

    Raises:
        TypeError: as `VAE.marginal_log_likelihood`.
        ValueError: if the likelihood is a density, if data are not outcomes of
            it, or as `VAE.marginal_log_likelihood`.
    """
    examples = prepared(
        vae, x, y, num_samples=num_samples, batch_size=batch_size
    )
    likelihood = examples.likelihood_of_first(vae)
    if not is_discrete(likelihood):
        raise ValueError(
            "Bits are those of outcomes that have probabilities. A density has "
            "none: it depends on the unit of x, and its logarithm may have "
            f"either sign. Received: {likelihood.name}. Train a discretised "
            "likelihood, such as the layer DiscretizedLogistic or an "
            "Independent of tfd.QuantizedDistribution, on whole numbers; or "
            "compare nats per example, by marginal_log_likelihood(), on the "
            "same data in the same unit."
        )
    # In the same pass: another pass of a pipeline may have another order, and
    # gaps must be counted for the examples that are evaluated.
    x, *targets = keras.tree.map_structure(
        lambda *parts: np.concatenate(parts), *examples.rows()
    )
    y = targets[0] if targets else None
    values = x_of(x if y is None else y)
    is_known = observed(values, marker_of(vae))
    _check_whole(values[is_known], likelihood.name)
    found = marginal_log_likelihood(
        vae, x, num_samples, batch_size, seed, verbose, y
    )
    sizes = is_known.reshape(len(values), -1).sum(axis=1)
    nats = np.where(sizes > 0, sizes, np.nan) * np.log(2.0)
    return BitsPerDimension(
        -found.log_likelihood / nats,
        found.standard_error / nats,
        found.pareto_k,
    )


def _check_whole(values: np.ndarray, name: str) -> None:
    """Refuses values between the outcomes."""
    if (values == np.floor(values)).all():
        return
    raise ValueError(
        f"The outcomes of {name} are whole numbers: between them log_prob is a "
        "cross-entropy, not a number of bits. Received: values from "
        f"{values.min()} to {values.max()}, not all whole. Evaluate on data "
        "such as the model draws; binarise them, (x > 0.5), if necessary."
    )


def probability_integral_transform(
    vae: LatentModel,
    x: Any,
    num_samples: int = 1,
    batch_size: int = 128,
    seed: int | None = None,
    verbose: bool = False,
    y: Any = None,
) -> ProbabilityIntegralTransform:
    """Tests whether the decoder predicts the spread of the data.

    ```none
    u_d = 1 / S sum_s F(x_d | z_s),     z_s ~ q(z|x)
    ```

    where F is the cumulative distribution of element d, or for a discrete
    likelihood its randomised form, F(x_d) - v P(x_d), v uniform on (0, 1).

    With one draw (S = 1) the values are independent and uniform if the model is
    right: x and an exact draw from p(z|x) are one draw from the joint
    distribution. A histogram that is high at both ends shows a likelihood that
    is too narrow; one that is high in the middle, a likelihood that is too
    wide; a slope, a bias. As the draws come from q, a wrong posterior shows as
    well. More draws smooth the values, but average out part of their spread:
    then they concentrate about 1/2 even for a right model, the more so the less
    x tells about z, and only models evaluated with the same S can be compared.

    Args:
        vae: a `VAE` whose likelihood has independent elements with a `cdf`.
        x: data, as for `marginal_log_likelihood`.
        num_samples: S, draws of z for each example.
        batch_size: examples at a time.
        seed: an int for the same draws again, or None.
        verbose: whether to show the progress.
        y: the target, as for `marginal_log_likelihood`.

    Returns:
        `ProbabilityIntegralTransform`: the values (NaN for missing elements),
        their distance from uniform, and their histogram. Values are kept 6e-8
        away from 0 and 1. If all N * D values are independent and uniform, the
        distance exceeds 1.63 / sqrt(N * D) one time in a hundred.

    Raises:
        TypeError, ValueError: if the shapes or the values of the data do not
            fit the model, or a number is not positive.
        NotImplementedError: if the elements of the likelihood are not
            independent, or have no `cdf`.

    References:
        Dawid. Present position and potential developments: the prequential
        approach. JRSS A 147(2), 1984.
        Czado, Gneiting, Held. Predictive model assessment for count data.
        Biometrics 65(4), 2009.
    """
    examples = prepared(
        vae, x, y, num_samples=num_samples, batch_size=batch_size
    )

    values, *masses = averages(
        _transform, vae, examples, num_samples, seed, verbose
    )
    uniform = np.random.default_rng(seed)
    for mass in masses:
        values = values - uniform.random(mass.shape) * mass
    edge = np.finfo("float32").epsneg
    values = np.clip(values, edge, 1.0 - edge)
    # Missing elements have no place in a distribution.
    ordered = np.sort(values[np.isfinite(values)])
    steps = np.arange(len(ordered) + 1) / len(ordered)
    distance = max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max())
    histogram, _ = np.histogram(ordered, _BINS, (0.0, 1.0))
    return ProbabilityIntegralTransform(values, distance, histogram)


def _transform(
    vae: LatentModel, samples: int, x: Any, y: Tensor, noise: Tensor
) -> tuple[Tensor, ...]:
    """u, `[B, *event]`, and of a discrete likelihood P(x), averaged over z."""
    z = draw(vae.encode(x), (samples,), noise)
    likelihood = likelihood_of(vae, as_one_batch(z), x, samples)
    check_likelihood(likelihood, y, samples)
    y = in_dtype_of(likelihood, y)
    data = copies(y, samples)
    elements = factors(complete(likelihood))
    try:
        terms = [elements.cdf(data)]
    except NotImplementedError as error:
        raise NotImplementedError(
            "The transform is the cumulative distribution of each element, "
            f"and {elements.name} has no cdf. Take a likelihood that has "
            "one, such as IndependentNormal or IndependentHuber."
        ) from error
    if is_discrete(likelihood):
        terms.append(elements.prob(data))
    missing = marker_of(vae)
    if missing is not None:
        terms[0] = ops.where(is_missing(data, missing), np.nan, terms[0])
    return tuple(
        ops.sum(ops.reshape(term, (samples, *y.shape)), axis=0) / samples
        for term in terms
    )
