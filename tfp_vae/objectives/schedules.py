"""Weights that change during training."""

from typing import Any

import keras
from keras import ops

from tfp_vae.arguments import check_steps, check_weight, is_positive_number
from tfp_vae.substrate import Tensor

__all__ = ["Cyclical", "LinearWarmup"]


class _Schedule:
    """What Keras needs to save an object that is not a layer."""

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_Schedule":
        """A schedule with these arguments."""
        return cls(**config)


@keras.saving.register_keras_serializable("tfp_vae")
class LinearWarmup(_Schedule):
    """A weight that rises linearly, and then stays constant.

    ```none
    weight(step) = start + (end - start) * min(step / num_steps, 1)
    ```

    It keeps the KL from switching latents off before the decoder uses them.

    Args:
        num_steps: after how many training steps (batches) the end is reached.
        start: the weight at step 0.
        end: the weight from `num_steps` on.

    Call arguments:
        step: a scalar float tensor, from 0.

    Returns:
        A scalar of the dtype of `step`.

    Raises:
        ValueError: if `num_steps` is not positive or a weight negative.

    Example:
    ```python
    ELBO(beta=LinearWarmup(num_steps=10 * steps_per_epoch))
    ```

    References:
        Bowman et al. Generating sentences from a continuous space. CoNLL 2016.
        https://arxiv.org/abs/1511.06349
        Sonderby et al. Ladder variational autoencoders. NeurIPS 2016.
        https://arxiv.org/abs/1602.02282
    """

    def __init__(
        self, num_steps: float, start: float = 0.0, end: float = 1.0
    ) -> None:
        self.num_steps: float = check_steps("num_steps", num_steps)
        self.start: float = check_weight("start", start)
        self.end: float = check_weight("end", end)

    def __call__(self, step: Tensor) -> Tensor:
        done = ops.minimum(step / self.num_steps, 1.0)
        return self.start + (self.end - self.start) * done


@keras.saving.register_keras_serializable("tfp_vae")
class Cyclical(_Schedule):
    """A weight that warms up again and again.

    ```none
    weight(step) = start + (end - start) * min(t / ramp, 1)
    t            = (step mod period) / period
    ```

    Args:
        period: training steps (batches) of one cycle.
        ramp: the share of a cycle in which the weight rises; then it is
            constant.
        start: the weight at the beginning of each cycle.
        end: the weight at the end of each.

    Call arguments:
        step: a scalar float tensor, from 0.

    Returns:
        A scalar of the dtype of `step`.

    Raises:
        ValueError: if `period` is not positive, `ramp` not in (0, 1], or a
            weight negative.

    Reference:
        Fu et al. Cyclical annealing schedule: a simple approach to mitigating
        KL vanishing. NAACL 2019. https://arxiv.org/abs/1903.10145
    """

    def __init__(
        self,
        period: float,
        ramp: float = 0.5,
        start: float = 0.0,
        end: float = 1.0,
    ) -> None:
        self.period: float = check_steps("period", period)
        if not (is_positive_number(ramp) and float(ramp) <= 1):
            raise ValueError(
                "`ramp` is the share of a cycle in which the weight rises, "
                f"above 0 and at most 1. Received: ramp={ramp!r}."
            )
        self.ramp: float = float(ramp)
        self.start: float = check_weight("start", start)
        self.end: float = check_weight("end", end)

    def __call__(self, step: Tensor) -> Tensor:
        within = ops.mod(step, self.period) / self.period
        done = ops.minimum(within / self.ramp, 1.0)
        return self.start + (self.end - self.start) * done
