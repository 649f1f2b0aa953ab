"""A look at the data before they reach a compiled step.

A compiled step sees shapes and dtypes, not values. So the values are looked at
here, once for each call of `fit`, `evaluate` or `predict`: all of them when the
data are arrays, the first batch when they come from a pipeline.
"""

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.checks import in_dtype_of
from tfp_vae.distributions.validated import validated
from tfp_vae.models.dry_run import try_shapes
from tfp_vae.models.nonfinite_guard import all_finite
from tfp_vae.samples import copies
from tfp_vae.substrate import Tensor, strategy_scope, tfd
from tfp_vae.training.data import as_keras_would, check_finite, peek

__all__ = ["examine", "examine_validation"]


def examine(
    model: keras.Model,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    support: bool = True,
) -> tuple[Any, Any]:
    """Builds a model on data and refuses data it cannot be trained on.

    A few rows go through the model by themselves, so that what does not fit is
    said in terms of values, and before the first step.

    Args:
        model: a `VAE`.
        x: arrays or a pipeline, as `keras.Model.fit` takes them.
        y: targets, when x are arrays.
        sample_weight: weights, when x are arrays.
        support: whether to try the target on the likelihood.

    Returns:
        `(x, y)` to train from. x is another object for a generator, of which an
        item had to be taken. y is x where there are weights but no targets,
        since Keras drops weights that come without.

    Raises:
        TypeError, ValueError: if the parts of the model, the shapes or the
            values of the data do not fit.
    """
    if isinstance(x, (list, tuple)) and len(x) == 1:
        x = x[0]
    x_seen, y_seen, x = peek(x, y)
    if not hasattr(x_seen, "shape") or not x_seen.shape or not x_seen.shape[0]:
        received = (
            f"shape {x_seen.shape}" if hasattr(x_seen, "shape") else x_seen
        )
        raise ValueError(
            "The data of a VAE are one array [N, *event] with N > 0, or a "
            f"pipeline of batches of it. Received: {received}."
        )
    if sample_weight is not None:
        weights, _ = check_finite("sample_weight", sample_weight)
        if (weights < 0).any():
            raise ValueError(
                "Weights of examples are not negative. Received: "
                f"{weights.min()}."
            )
        y = x if y is None else y
    x_values, rows = check_finite("x", x_seen)
    target = x_values
    if y_seen is not None:
        target, rows = check_finite("y", y_seen)
    with strategy_scope(model):
        _try_rows(model, x_values[rows], target[rows], support)
    return x, y


def examine_validation(model: keras.Model, data: Any) -> Any:
    """`examine` for what `fit` takes as `validation_data`.

    Args:
        model: a `VAE`.
        data: a tuple of arrays, an array or a pipeline.

    Returns:
        The data to validate on.

    Raises:
        TypeError, ValueError: as `examine`.
    """
    if not isinstance(data, (list, tuple)):
        return examine(model, data, None)[0]
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    return (*examine(model, x, y, sample_weight), sample_weight)


def _try_rows(
    model: keras.Model, x: np.ndarray, target: np.ndarray, support: bool
) -> None:
    """Calls model and objective, and tries the support on values."""
    x, target = (ops.convert_to_tensor(as_keras_would(v)) for v in (x, target))
    if not support:
        try_shapes(model, model, x)
        return

    samples = model.objective.num_samples

    def run(x: Tensor, target: Tensor) -> tuple[Any, ...]:
        posterior, z, likelihood = model(x)
        model.compute_terms(target, (posterior, z, likelihood))
        target = in_dtype_of(likelihood, copies(target, samples))
        prior = model.prior_distribution(posterior)
        return posterior, prior, likelihood, target

    parts = (
        model.encoder,
        model.decoder,
        model.prior,
        model.objective,
        samples,
    )
    *_, likelihood, target = model.dry_run(model, parts, run, x, target)
    try:
        model.warned_of_values = _check_support(
            likelihood, target, model.warned_of_values
        )
    except ValueError as error:
        # Data are not to blame for what broken weights make of them.
        if all_finite(model.trainable_variables):
            raise
        raise ValueError(
            "The weights of the model must be finite. Received: NaN or "
            "infinite ones. Load the weights of a run that went well."
        ) from error


def _check_support(
    likelihood: tfd.Distribution, target: Tensor, warned: bool
) -> bool:
    """Refuses data that the likelihood gives no density.

    The likelihood is asked twice: by its own `validate_args` assertions, and
    for a finite log density. Values between two outcomes of a discrete
    likelihood, such as grey levels for a Bernoulli, are let through with a
    warning, since people train so on purpose; returns whether it was given.
    """
    fault = _fault(likelihood, target)
    if fault is None:
        return warned
    values = ops.convert_to_numpy(target)
    received = f"values from {values.min()} to {values.max()}"
    if any(
        _fault(likelihood, whole(target)) is not None
        for whole in (ops.floor, ops.ceil)
    ):
        raise ValueError(
            "All data must lie in the support of the likelihood. Received: "
            f"{received} for {likelihood.name}, which answers: {fault}. "
            "Rescale the data, or choose a likelihood that is made for them."
        )
    if not warned:
        warnings.warn(
            f"{likelihood.name} has whole numbers as outcomes, but the data "
            f"have values between them ({received}): log_prob is then a "
            "cross-entropy and not the logarithm of a probability, and the "
            "ELBO no bound on anything. Undo the rescaling of data that were "
            "whole numbers, binarise them, (x > 0.5).astype(x.dtype), or take "
            "a likelihood for grey levels, such as IndependentNormal or "
            "IndependentHuber.",
            stacklevel=5,
        )
    return True


def _fault(likelihood: tfd.Distribution, target: Tensor) -> str | None:
    """What is wrong with the data, in the likelihood's own words, or None."""
    try:
        # What TFP warns of while it validates is no fault of the data.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            log_prob = validated(likelihood).log_prob(target)
    # Each backend has its own kind of error for an assertion that fails.
    except Exception as error:
        message = getattr(error, "message", None) or str(error)
        return " ".join(message.split())[:300]
    log_prob = ops.convert_to_numpy(log_prob)
    if np.isfinite(log_prob).all():
        return None
    return f"a log density of {log_prob[~np.isfinite(log_prob)].flat[0]}"
