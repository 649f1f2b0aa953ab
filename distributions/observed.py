"""A likelihood of data with gaps."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.checks import in_dtype_of
from tfp_vae.distributions.partial import partial
from tfp_vae.substrate import Tensor, tfd

__all__ = ["Observed", "complete", "is_missing"]


def complete(distribution: tfd.Distribution) -> tfd.Distribution:
    """The distribution over complete data.

    Args:
        distribution: any.

    Returns:
        What is inside an `Observed`, otherwise the distribution itself.
    """
    if isinstance(distribution, Observed):
        return distribution.distribution
    return distribution


def is_missing(x: Any, missing_values: float) -> Tensor:
    """Which elements are missing.

    Args:
        x: a tensor.
        missing_values: the number that marks them; NaN is one.

    Returns:
        Bools of the shape of x.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "float" in dtype:
        if missing_values != missing_values:
            return ops.isnan(x)
        return ops.equal(x, ops.cast(missing_values, dtype))
    limits = (0, 1) if dtype == "bool" else _limits(dtype)
    # A cast to whole numbers would turn any other marker into one of them.
    if missing_values % 1 != 0 or not (
        limits[0] <= missing_values <= limits[1]
    ):
        return ops.zeros_like(x, dtype="bool")
    return ops.equal(x, ops.cast(int(missing_values), dtype))


def _limits(dtype: str) -> tuple[int, int]:
    found = np.iinfo(dtype)
    return int(found.min), int(found.max)


class Observed(tfd.Distribution):
    """A distribution whose `log_prob` is that of the observed elements.

    ```none
    log p(x_observed | z)                             by default
    log p(x_observed | z) + log p(mask | x, z)        with a missing model
    ```

    where x is completed by a draw of the missing elements, given z and the
    observed ones.
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        missing_values: float,
        missing_model: Callable[[Tensor], tfd.Distribution] | None = None,
        seed: Any = None,
        validate_args: bool = False,
        name: str | None = None,
    ) -> None:
        """Constructs a likelihood of data with gaps.

        Args:
            distribution: over the complete data.
            missing_values: the number that marks what is missing.
            missing_model: from completed data, `[B, *event]`, to a distribution
                over the mask, 1 where observed.
            seed: of the draws that complete the data.
            validate_args: whether to check the data.
            name: by default that of the distribution.

        Raises:
            ValueError: if the distribution cannot leave elements out, or, with
                a missing model, if its draws carry no gradient.
        """
        parameters = dict(locals())
        self._partial = partial(distribution)
        self._distribution = distribution
        self._missing_values = missing_values
        self._missing_model = missing_model
        self._seed = seed
        if missing_model is not None and (
            distribution.reparameterization_type != tfd.FULLY_REPARAMETERIZED
        ):
            raise ValueError(
                "With a missing_model the likelihood must be reparameterised: "
                "the mask depends on completed data, and no gradient would "
                f"pass through their draws. Received: {distribution.name}. "
                "Take a continuous likelihood such as IndependentNormal."
            )
        super().__init__(
            dtype=distribution.dtype,
            reparameterization_type=distribution.reparameterization_type,
            validate_args=validate_args,
            allow_nan_stats=distribution.allow_nan_stats,
            parameters=parameters,
            name=name or distribution.name,
        )

    @property
    def distribution(self) -> tfd.Distribution:
        """The distribution of the complete data."""
        return self._distribution

    def _batch_shape(self) -> Any:
        return self._distribution.batch_shape

    def _batch_shape_tensor(self) -> Tensor:
        return self._distribution.batch_shape_tensor()

    def _event_shape(self) -> Any:
        return self._distribution.event_shape

    def _event_shape_tensor(self) -> Tensor:
        return self._distribution.event_shape_tensor()

    def _filled(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Data with 0 in the gaps, and what was observed."""
        missing = is_missing(value, self._missing_values)
        filled = ops.where(missing, ops.zeros_like(value), value)
        # Counts may be integers: `tfd.Poisson` takes none on TensorFlow.
        return in_dtype_of(self, filled), ops.logical_not(missing)

    def log_prob(
        self, value: Any, name: str = "log_prob", **kwargs: Any
    ) -> Tensor:
        """The log density of what was observed, `[...]`, nats."""
        return super().log_prob(self._tensor(value), name, **kwargs)

    def prob(self, value: Any, name: str = "prob", **kwargs: Any) -> Tensor:
        """The density of what was observed, `[...]`."""
        return super().prob(self._tensor(value), name, **kwargs)

    def _tensor(self, value: Any) -> Tensor:
        """Data as a tensor that can hold the marker.

        TFP would cast arrays to the dtype of the outcomes: for integers, also
        NaN.
        """
        if ops.is_tensor(value):
            return value
        value = np.asarray(value)
        dtype = keras.backend.standardize_dtype(self.dtype)
        if value.dtype.kind != "f":
            return ops.convert_to_tensor(value)
        return ops.convert_to_tensor(
            value, dtype if "float" in dtype else keras.config.floatx()
        )

    def _log_prob(self, value: Tensor) -> Tensor:
        x, observed = self._filled(value)
        log_prob = self._partial.log_prob(x, observed)
        if self._missing_model is None:
            return log_prob
        event = tuple(self.event_shape)
        # `[S, B]` as one batch, as layers take it.
        completed = ops.reshape(self.complete(value), (-1, *event))
        mechanism = self._missing_model(completed)
        dtype = keras.backend.standardize_dtype(mechanism.dtype)
        shape = ops.shape(log_prob)
        mask = ops.broadcast_to(ops.cast(observed, dtype), (*shape, *event))
        of_mask = mechanism.log_prob(ops.reshape(mask, (-1, *event)))
        of_mask = ops.cast(of_mask, keras.backend.standardize_dtype(x.dtype))
        return log_prob + ops.reshape(of_mask, shape)

    def complete(self, value: Tensor, seed: Any = None) -> Tensor:
        """Data whose gaps are filled by a draw, given what was observed.

        Args:
            value: `[..., *event]`.
            seed: of the draw; by default the one of `log_prob`.

        Returns:
            `batch_shape + event_shape`.
        """
        x, observed = self._filled(value)
        seed = self._seed if seed is None else seed
        drawn = self._partial.draw(x, observed, seed)
        return ops.where(observed, x, drawn)

    def statistics(self, value: Tensor) -> list[Tensor]:
        """See `Partial`.

        Args:
            value: `batch_shape + event_shape`.

        Returns:
            Tensors that may be averaged.
        """
        return self._partial.statistics(*self._filled(value))

    def values(self, statistics: Iterator[np.ndarray]) -> np.ndarray:
        """See `Partial`.

        Args:
            statistics: averages of what `statistics` gave.

        Returns:
            `[..., *event]`.
        """
        return self._partial.values(statistics)

    def _sample_n(self, n: Tensor, seed: Any = None) -> Tensor:
        return self._distribution.sample(n, seed=seed)

    def _mean(self) -> Tensor:
        return self._distribution.mean()

    def _mode(self) -> Tensor:
        return self._distribution.mode()

    def _variance(self) -> Tensor:
        return self._distribution.variance()
