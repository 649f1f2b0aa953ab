"""Data with gaps: what encoder and likelihood see of them."""

import math
import numbers
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.distributions.observed import Observed, is_missing
from tfp_vae.evaluation.imputation import impute
from tfp_vae.substrate import Tensor, tfd

__all__ = ["Incomplete", "check_missing"]


def check_missing(missing_values: Any, missing_model: Any) -> float | None:
    """Refuses a marker that is not a number, and a model without a marker.

    Args:
        missing_values: the argument.
        missing_model: the argument.

    Returns:
        The marker, as a Python number.

    Raises:
        TypeError: if the marker is not a number, or the model not a layer.
        ValueError: if the marker is infinite, or a model has none.
    """
    if missing_model is not None:
        if not isinstance(missing_model, keras.layers.Layer):
            raise TypeError(
                "missing_model is a Keras layer from completed data to a "
                "distribution over the mask, such as SelfMasking. Received: "
                f"{missing_model!r}."
            )
        if missing_values is None:
            raise ValueError(
                "A missing_model describes which values are missing: say what "
                "marks them. Received: missing_values=None. Give "
                "missing_values=np.nan."
            )
    if missing_values is None:
        return None
    if isinstance(missing_values, bool) or not isinstance(
        missing_values, numbers.Real
    ):
        raise TypeError(
            "missing_values is the number that marks what is missing, such as "
            f"np.nan or -1. Received: {missing_values!r}."
        )
    if math.isinf(missing_values):
        raise ValueError(
            "missing_values is NaN or a finite number. Received: "
            f"{missing_values!r}."
        )
    if isinstance(missing_values, numbers.Integral):
        return int(missing_values)
    return float(missing_values)


class Incomplete:
    """The part of `LatentVariableModel` that handles data with gaps."""

    missing_values: float | None
    missing_model: keras.layers.Layer | None
    compute_dtype: str

    def _split(self, x: Any) -> tuple[Tensor, Any]:
        """x with 0 in the gaps, and a mask of 1 where observed."""
        if self.missing_values is None:
            return x, lambda: ops.ones_like(x, self.compute_dtype)
        x = ops.convert_to_tensor(x)
        missing = is_missing(x, self.missing_values)
        observed = ops.cast(ops.logical_not(missing), self.compute_dtype)
        return ops.where(missing, ops.zeros_like(x), x), observed

    def observed_likelihood(
        self, likelihood: tfd.Distribution, seed: Any = None
    ) -> tfd.Distribution:
        """The likelihood of what is observed.

        Args:
            likelihood: p(x|z), as `decode` gives it.
            seed: a seed of TFP, for the draws that a `missing_model` needs.

        Returns:
            A distribution whose `log_prob` leaves out what is missing; the
            likelihood itself if nothing can be missing.

        Raises:
            ValueError: if elements of the likelihood cannot be left out.
        """
        if self.missing_values is None or isinstance(likelihood, Observed):
            return likelihood
        return Observed(
            likelihood, self.missing_values, self.missing_model, seed
        )

    def impute(
        self,
        x: Any,
        num_samples: int = 1000,
        draws: int | None = None,
        batch_size: int = 128,
        seed: int | None = None,
        verbose: bool = False,
    ) -> np.ndarray:
        """Fills the gaps of data: see `evaluation.impute`.

        Args:
            x: data, `[N, *event]`, a dict of them and of conditions, or a
                pipeline of batches that can be iterated several times.
            num_samples: draws of z for each example.
            draws: how many draws to return; None for the importance-weighted
                mean.
            batch_size: examples at a time.
            seed: an int for the same result again, or None.
            verbose: whether to show the progress.

        Returns:
            x with its gaps filled, `[N, *event]`, by the mean or, for a
            categorical element, the most probable class; or
            `[draws, N, *event]`.

        Raises:
            TypeError, ValueError: if the model has no `missing_values`, the
                data do not fit it, or a number is not positive.
        """
        model: Any = self
        return impute(model, x, num_samples, draws, batch_size, seed, verbose)
