"""Losses and metrics of users, given distributions and not tensors.

Keras turns what a model returns into a tensor before a loss sees it.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.distributions.serialization import (
    deserialize_function,
    serialize_function,
)
from tfp_vae.layers.sample import mean_or_mode
from tfp_vae.layers.tensor_like import tensor_like
from tfp_vae.reduction import reduce_loss
from tfp_vae.substrate import Tensor, tfd

__all__ = ["LossOfDistribution", "MetricsOfDistributions", "losses_of_users"]


def losses_of_users(losses: Any) -> Any:
    """Puts what takes distributions in place of losses that users wrote.

    Args:
        losses: as `compile` takes them.

    Returns:
        The same structure.
    """
    return keras.tree.map_structure(_loss, losses)


def _loss(loss: Any) -> Any:
    if isinstance(loss, keras.losses.Loss):
        # One that is called in a way of its own knows what it does.
        is_plain = type(loss).__call__ is keras.losses.Loss.__call__
        if is_plain and _is_of_user(type(loss)):
            return LossOfDistribution(loss)
        return loss
    return LossOfDistribution(loss) if _is_function_of_user(loss) else loss


def _is_of_user(thing: Any) -> bool:
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return module.split(".")[0] not in ("keras", "tfp_vae")


def _is_function_of_user(thing: Any) -> bool:
    is_function = callable(thing) and not isinstance(thing, type)
    return is_function and _is_of_user(thing)


@keras.saving.register_keras_serializable("tfp_vae")
class LossOfDistribution(keras.losses.Loss):
    """A loss of a user's, a function or an object, given the distribution.

    Where the output is a tensor, it is what Keras makes of it. As in Keras 2,
    y of one dimension gets a second where the output has one.

    Args:
        loss: a function of y and the output, or a Keras loss of a class whose
            `call` takes them.
        **_: of `keras.losses.Loss`; known from `loss`.

    Raises:
        TypeError: on saving, if the function is not registered with Keras.
        ValueError: if the losses are of another batch than y.
    """

    def __init__(self, loss: Any, **_: Any) -> None:
        reduction = "sum_over_batch_size"
        if isinstance(loss, keras.losses.Loss):
            reduction, name = loss.reduction, loss.name
        else:
            name = _name_of(loss)
        super().__init__(name=name, reduction=reduction)
        self.loss = loss

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> Tensor:
        if not isinstance(y_pred, tfd.Distribution):
            return _AsInKeras(self.loss, self.reduction, self.name)(
                y_true, y_pred, sample_weight
            )
        losses = ops.convert_to_tensor(self.call(y_true, y_pred))
        if y_true is not None and not keras.tree.is_nested(y_true):
            _check_batch(self.name, tuple(y_true.shape), tuple(losses.shape))
        return reduce_loss(losses, sample_weight, self.reduction, self.name)

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        function = getattr(self.loss, "call", self.loss)
        return function(_like(y_true, y_pred), y_pred)

    def get_config(self) -> dict[str, Any]:
        return {"loss": serialize_function(self.loss, "A loss")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LossOfDistribution":
        return cls(deserialize_function(config["loss"], "A loss"))


class _AsInKeras(keras.losses.Loss):
    """A loss of tensors that is a function, or an object, as Keras has it."""

    def __init__(self, loss: Any, reduction: Any, name: str) -> None:
        super().__init__(name=name, reduction=reduction)
        self.loss = loss

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        if isinstance(self.loss, keras.losses.Loss):
            return self.loss.call(y_true, y_pred)
        if not keras.tree.is_nested(y_pred):
            y_true = _of_rank(y_true, tuple(y_pred.shape))
        return self.loss(y_true, y_pred)


def _check_batch(
    name: str, y: tuple[int | None, ...], losses: tuple[int | None, ...]
) -> None:
    """Refuses losses that were broadcast, where the shapes are known."""
    if not y or not losses or y[0] is None or losses[0] is None:
        return
    # Of [B] and [B, 1] densities broadcast to [B, B].
    is_square = losses[:2] == (y[0], y[0]) and y[1:2] != (y[0],) and y[0] > 1
    if losses[0] not in (1, y[0]) or is_square:
        raise ValueError(
            "A loss is one of each example, or a scalar. Received: losses of "
            f"shape {losses} from {name} for y of shape {y}. Give y and the "
            "distribution the same shape: [B, ...]."
        )


def _name_of(function: Any) -> str:
    function = getattr(function, "func", function)
    name = getattr(function, "__name__", type(function).__name__)
    return re.sub(r"\W", "", name) or "loss"


def _like(y: Any, distribution: tfd.Distribution) -> Any:
    """y, of the rank and the precision of the distribution."""
    if y is None or keras.tree.is_nested(y):
        return y
    y = _of_rank(
        ops.convert_to_tensor(y),
        (*distribution.batch_shape, *distribution.event_shape),
    )
    dtype = keras.backend.standardize_dtype(distribution.dtype)
    if "float" in dtype and "float" in keras.backend.standardize_dtype(y.dtype):
        y = ops.cast(y, dtype)
    return y


def _of_rank(y: Tensor, shape: tuple[int | None, ...]) -> Tensor:
    """y with one dimension of 1 more or less, as Keras does."""
    rank = len(y.shape)
    # Of more dimensions the first may be one of draws.
    if rank == 1 and len(shape) == 2 and shape[-1] == 1:
        return ops.expand_dims(y, -1)
    if rank == len(shape) + 1 and y.shape[-1] == 1:
        return ops.squeeze(y, -1)
    return y


class MetricsOfDistributions:
    """Gives metrics of users the distribution that a tensor stands for.

    Keras' own metrics want tensors. Others are given a distribution that is
    also a tensor.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Tensor, tfd.Distribution]] = {}

    def of_users(self, metrics: Any) -> Any:
        """Puts what takes distributions in place of metrics that users wrote.

        Args:
            metrics: as `compile` takes them.

        Returns:
            The same structure.
        """
        return keras.tree.map_structure(self._metric, metrics)

    def _metric(self, metric: Any) -> Any:
        if isinstance(metric, _MetricOfDistribution):
            metric.find = self.find
        elif isinstance(metric, keras.metrics.Metric):
            if _is_of_user(type(metric)):
                metric.update_state = functools.partial(
                    _updated, type(metric).update_state, metric, self
                )
        elif _is_function_of_user(metric):
            return _MetricOfDistribution(metric, self.find)
        return metric

    def tensors(self, outputs: Any) -> Any:
        """Tensors in place of distributions, which are remembered.

        Args:
            outputs: of a model.

        Returns:
            The same structure.
        """
        self._seen.clear()
        return keras.tree.map_structure(self._tensor, outputs)

    def forget(self) -> None:
        """Forgets the distributions."""
        self._seen.clear()

    def _tensor(self, output: Any) -> Any:
        if not isinstance(output, tfd.Distribution):
            return output
        tensor = mean_or_mode(output)
        self._seen[id(tensor)] = tensor, output
        return tensor

    def find(self, y_true: Any, tensor: Any) -> tuple[Any, Any]:
        """The distribution that a tensor stands for, as both, and y like it.

        Args:
            y_true: the target.
            tensor: what Keras was given.

        Returns:
            Two arguments of a metric.
        """
        _, distribution = self._seen.get(id(tensor), (None, None))
        if distribution is None:
            return y_true, tensor
        both = tensor_like(distribution, lambda: tensor, None)
        return _like(y_true, distribution), both


def _updated(
    update: Callable[..., Any],
    metric: keras.metrics.Metric,
    seen: MetricsOfDistributions,
    y_true: Any,
    y_pred: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    return update(metric, *seen.find(y_true, y_pred), *args, **kwargs)


@keras.saving.register_keras_serializable("tfp_vae")
class _MetricOfDistribution:
    """A metric that is a function of a user's."""

    def __init__(
        self,
        function: Callable[..., Any],
        find: Callable[..., Any] = lambda *pair: pair,
    ) -> None:
        self.function = function
        self.find = find
        # By this Keras names the metric.
        self.__name__ = _name_of(function)

    def __call__(self, y_true: Any, y_pred: Any) -> Tensor:
        return self.function(*self.find(y_true, y_pred))

    def get_config(self) -> dict[str, Any]:
        return {"function": serialize_function(self.function, "A metric")}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_MetricOfDistribution":
        return cls(deserialize_function(config["function"], "A metric"))
