"""The layer of relaxed one-hot vectors."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import canonical_event_shape, is_positive_number
from tfp_vae.distributions.relaxed_one_hot import (
    StraightThroughOneHotCategorical,
)
from tfp_vae.distributions.serialization import (
    deserialize_function,
    serialize_function,
)
from tfp_vae.layers.distribution_layer import DistributionLayer, check_width
from tfp_vae.substrate import Tensor, tfd

__all__ = ["RelaxedOneHotCategorical"]


@keras.saving.register_keras_serializable("tfp_vae")
class RelaxedOneHotCategorical(DistributionLayer):
    """The Gumbel-softmax: one of K classes, relaxed so that gradients pass.

    ```none
    z = softmax((logits + Gumbel noise) / temperature)
    ```

    As a posterior its default prior is the uniform categorical distribution;
    the KL divergence to a categorical prior is the exact one of the categorical
    distribution with the same logits (Jang et al., 2017). For a relaxed prior,
    `tfd.RelaxedOneHotCategorical`, it is a Monte Carlo estimate from the
    densities (Maddison et al., 2017).

    Args:
        event_shape: int, the number of classes K; or `(N, K)` for N variables.
        temperature: a positive number, or a function from the training step (a
            scalar float tensor, from 0) to one, such as
            `LinearWarmup(10_000, start=1.0, end=0.5)`. The layer counts its
            training steps.
        straight_through: whether draws are one-hot, with the gradient of the
            relaxed ones.
        convert_to_tensor_fn: see `DistributionLayer`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        inputs: logits, `[..., K]` or `[..., N * K]`.

    Returns:
        `tfd.RelaxedOneHotCategorical`, for N variables in `tfd.Independent`.

    Raises:
        ValueError: for a temperature that is not positive, or inputs of the
            wrong width.

    References:
        Jang, Gu, Poole. Categorical reparameterization with Gumbel-softmax.
        ICLR 2017. https://arxiv.org/abs/1611.01144
        Maddison, Mnih, Teh. The concrete distribution. ICLR 2017.
        https://arxiv.org/abs/1611.00712
    """

    def __init__(
        self,
        event_shape: Any,
        temperature: float | Callable[[Tensor], Tensor] = 0.5,
        straight_through: bool = False,
        convert_to_tensor_fn: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_shape, convert_to_tensor_fn, **kwargs)
        if len(self.event_shape) not in (1, 2):
            raise ValueError(
                "Relaxed one-hot vectors have the event shape K, or (N, K) for "
                f"N of them. Received: event_shape={event_shape!r}."
            )
        if not callable(temperature) and not is_positive_number(temperature):
            raise ValueError(
                "temperature is a positive number or a function of the "
                f"training step. Received: temperature={temperature!r}."
            )
        self.temperature = temperature
        self.straight_through = straight_through
        self.step: keras.Variable | None = None
        if callable(temperature):
            self.step = self.add_weight(
                shape=(),
                dtype="int32",
                initializer="zeros",
                trainable=False,
                aggregation="only_first_replica",
                name="step",
            )

    @staticmethod
    def params_size(event_shape: Any) -> int:
        """The number of logits."""
        return math.prod(canonical_event_shape(event_shape))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_width(self, input_shape, self.num_parameters)

    def call(
        self, inputs: Tensor, training: bool | None = None
    ) -> tfd.Distribution:
        distribution = super().call(inputs)
        if training and self.step is not None:
            self.step.assign_add(1)
        return distribution

    def make_distribution(self, params: Tensor) -> tfd.Distribution:
        temperature = self.temperature
        if self.step is not None:
            assert callable(temperature)
            temperature = temperature(ops.cast(self.step, params.dtype))
        family = (
            StraightThroughOneHotCategorical
            if self.straight_through
            else tfd.RelaxedOneHotCategorical
        )
        batch = ops.shape(params)[:-1]
        distribution = family(
            ops.cast(temperature, params.dtype),
            logits=ops.reshape(params, (*batch, *self.event_shape)),
        )
        if len(self.event_shape) == 1:
            return distribution
        return tfd.Independent(distribution, 1)

    def get_config(self) -> dict[str, Any]:
        temperature = self.temperature
        if callable(temperature):
            temperature = serialize_function(
                temperature, "The temperature of a RelaxedOneHotCategorical"
            )
        return {
            **super().get_config(),
            "temperature": temperature,
            "straight_through": self.straight_through,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "RelaxedOneHotCategorical":
        config = dict(config)
        if isinstance(config["temperature"], dict):
            config["temperature"] = deserialize_function(
                config["temperature"], "The temperature"
            )
        return cls(**config)
