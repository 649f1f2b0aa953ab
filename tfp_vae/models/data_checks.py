"""Checks of the data before they reach a compiled step.

A compiled step sees shapes and dtypes, not values. So the values are checked
here, once for each call of `fit`, `evaluate` or `predict`: all of them if the
data are arrays, the first batch if they come from a pipeline.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.checks import in_dtype_of
from tfp_vae.distributions.observed import Observed
from tfp_vae.entries import conditions_of, with_x, x_of
from tfp_vae.evaluation.model import prior_of
from tfp_vae.latents import parts_at
from tfp_vae.models.conditions import Entry, fits_entry
from tfp_vae.models.dry_run import try_shapes
from tfp_vae.models.nonfinite_guard import all_finite
from tfp_vae.models.support import (
    Support,
    between,
    first_fault,
    unscaled,
)
from tfp_vae.samples import copies
from tfp_vae.substrate import Tensor, strategy_scope, tfd
from tfp_vae.training.data import Seen, as_keras_would, look, peek
from tfp_vae.warn import warn_user

__all__ = ["examine"]

# What to do about a value that is not a number.
_X = (
    "Remove or impute them; or, if they mark what was not observed, say so by "
    "VAE(..., missing_values=...)"
)
_CONDITION = (
    "A condition has no missing values: remove such rows, impute them, or give "
    "what is missing a class of its own"
)


def examine(
    model: keras.Model,
    x: Any,
    y: Any,
    sample_weight: Any = None,
    support: bool = True,
) -> tuple[Any, Any]:
    """Builds a model on data and refuses data on which it cannot be trained.

    A few rows pass through the model separately, so that an error is about
    values, and comes before the first step.

    Args:
        model: a `VAE`.
        x: arrays or a pipeline, as `keras.Model.fit` takes them; with
            conditions, dicts of arrays.
        y: targets, when x are arrays.
        sample_weight: weights, when x are arrays.
        support: whether to try the target on the likelihood.

    Returns:
        `(x, y)` to train from. x is another object for a generator, since an
        item was taken from it. y is x if there are weights but no targets,
        since Keras drops weights without targets.

    Raises:
        TypeError, ValueError: if the parts of the model, the shapes or the
            values of the data do not fit.
    """
    x, y = _only_one(x), _only_one(y)
    x_seen, y_seen, x = peek(x, y)
    if isinstance(x_seen, (list, tuple)):
        raise TypeError(
            "The data of a VAE are one array [N, *event], or a dict of it and "
            f"of conditions. Received: a {type(x_seen).__name__} of "
            f"{len(x_seen)} items. Give np.asarray(x), or "
            '{"x": x, "label": labels}.'
        )
    is_dict = isinstance(x_seen, dict)
    conditions, x_seen = conditions_of(x_seen), x_of(x_seen)
    if not hasattr(x_seen, "shape") or not x_seen.shape or not x_seen.shape[0]:
        received = (
            f"shape {x_seen.shape}" if hasattr(x_seen, "shape") else x_seen
        )
        raise ValueError(
            "The data of a VAE are one array [N, *event] with N > 0, or a "
            f"pipeline of batches of it. Received: {received}."
        )
    if sample_weight is not None:
        weights = look("sample_weight", np.asarray(sample_weight)).array
        if (weights < 0).any():
            raise ValueError(
                "Weights of examples are not negative. Received: "
                f"{weights.min()}."
            )
        if not weights.any():
            raise ValueError(
                "Some weights of examples must be above 0, or nothing is "
                "learned. Received: zeros alone. Leave sample_weight out for "
                "examples that count alike."
            )
        y = x_of(x) if y is None else y
    missing = model.missing_values
    seen = target = look("x", x_seen, _X, missing)
    conditions = _check_conditions(
        conditions, len(seen.array), model.expected_entries()
    )
    if y_seen is not None and y_seen is not x_seen:
        target = look("y", y_seen, _X, missing)

    def with_conditions(rows: Any) -> Any:
        x = _tensor(seen.array[rows])
        if not conditions and not is_dict:
            return x
        return {n: _tensor(c[rows]) for n, c in conditions.items()} | {"x": x}

    with strategy_scope(model):
        _try_rows(model, with_conditions, target, support)
    return x, y


def _check_conditions(
    conditions: dict[str, Any], rows: int, known: dict[str, Entry]
) -> dict[str, np.ndarray]:
    """Conditions as arrays, one row for each example, none missing."""
    found = {}
    for name, values in conditions.items():
        array = look(name, values, _CONDITION).array
        if len(array) != rows:
            raise ValueError(
                "All entries have one row for each example. Received: "
                f"{name} of {len(array)} rows, x of {rows} rows."
            )
        if name in known and not fits_entry(array.shape, known[name].shape):
            raise ValueError(
                "The entries of the data have the shapes that the model was "
                f"built for. Received: {name!r} in the shape {array.shape}, in "
                f"place of {(rows, *known[name].shape[1:])}. Reshape the "
                "entry, or change the input of the model."
            )
        found[name] = array
    return found


def _only_one(data: Any) -> Any:
    """The array of a list of one array."""
    alone = isinstance(data, (list, tuple)) and len(data) == 1
    return data[0] if alone and hasattr(data[0], "shape") else data


def _tensor(rows: np.ndarray) -> Tensor:
    return ops.convert_to_tensor(as_keras_would(rows))


def _try_rows(
    model: keras.Model,
    data_of: Callable[[Any], Any],
    target: Seen,
    support: bool,
) -> None:
    """Calls model and objective on a few rows, and tries the support of all."""
    # The rows of x and of its target belong together.
    rows = target.rows
    if not support:
        try_shapes(model, model, data_of(rows))
        return

    def likelihood_of(rows: Any) -> tfd.Distribution:
        return _likelihood(model, data_of(rows), _tensor(target.array[rows]))

    likelihood = likelihood_of(rows)
    samples = _samples(likelihood, len(rows))
    if not samples:
        # The `call` of a subclass, which gives something else than a
        # distribution for each row.
        return
    look_at = Support(likelihood, samples, target)
    try:
        fault = first_fault(look_at, target, likelihood_of)
    except ValueError as error:
        # If the weights are not finite, the data are not at fault.
        if all_finite(model.trainable_variables):
            raise
        raise ValueError(
            "The weights of the model must be finite. Received: NaN or "
            "infinite ones. Load the weights of a run that went well."
        ) from error
    message = between(look_at, fault) or unscaled(look_at)
    if message and not model.warned_of_values:
        warn_user(message)
        model.warned_of_values = True


def _samples(likelihood: tfd.Distribution, rows: int) -> int:
    """How many z of each row a likelihood is of; 0 if it is something else."""
    size = [*tuple(likelihood.batch_shape), 0][0]
    return 0 if size % rows else size // rows


def _likelihood(model: keras.Model, x: Any, target: Tensor) -> tfd.Distribution:
    """The likelihood of a few rows, after a pass through the objective too."""

    def run(x: Any, target: Tensor) -> tuple[Any, ...]:
        posterior, z, likelihood = model(x)
        model.compute_terms(with_x(x, target), (posterior, z, likelihood))
        samples = _samples(likelihood, target.shape[0]) or 1
        target = in_dtype_of(likelihood, copies(target, samples))
        prior = prior_of(model, posterior, x)
        # The parts of a joint distribution: the functions between them cannot
        # leave a compiled pass.
        parts = [parts_at(posterior, z), parts_at(prior, z)]
        return *parts, likelihood, target

    parts = (
        model.encoder,
        model.decoder,
        model.prior,
        model.objective,
        model.missing_model,
        model.objective.num_samples,
    )
    likelihood = model.dry_run(model, parts, run, x, target)[-2]
    if model.missing_values is None:
        return likelihood
    return Observed(likelihood, model.missing_values)
