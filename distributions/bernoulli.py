"""The Bernoulli distribution, at the cost of a binary cross-entropy."""

import math
from typing import Any

from keras import ops

from tfp_vae.distributions.limits import largest
from tfp_vae.substrate import Tensor, as_tensor, tfd

__all__ = ["Bernoulli"]


class Bernoulli(tfd.Bernoulli):
    """`tfd.Bernoulli` whose `log_prob` from logits takes one softplus, not two.

    ```none
    log p(x) = x l - softplus(l),        x in {0, 1},  l the logits
             = (x l - max(l, 0)) - log1p(exp(-|l|))
    ```

    The second line is computed: nothing cancels where x and l agree, and the
    gradient x - sigmoid(l) is right for every finite l, zero included. Infinite
    logits mean certainty: the log probability is 0 or -inf, the gradient 0.
    Between 0 and 1 it is minus the binary cross-entropy of x.

    Args:
        logits: log-odds of 1, any shape; or None.
        probs: probabilities of 1, for which TFP's own formula is used; or None.
            Give exactly one of the two.
        dtype: of draws, by default int32.
        validate_args: whether parameters and values are checked.
        allow_nan_stats: as in TFP.
        name: of the distribution.

    Raises:
        ValueError: unless exactly one of `logits` and `probs` is given.
    """

    def __init__(
        self,
        logits: Tensor = None,
        probs: Tensor = None,
        dtype: Any = "int32",
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Bernoulli",
    ) -> None:
        super().__init__(
            logits, probs, dtype, validate_args, allow_nan_stats, name
        )

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        return super()._parameter_properties(dtype, num_classes)

    def _log_prob(self, event: Tensor) -> Tensor:
        if self._logits is None:
            return super()._log_prob(event)
        given = as_tensor(self._logits)
        # Infinities would give 0 inf and inf - inf.
        logits = ops.clip(given, -largest(given), largest(given))
        positive = ops.relu(logits)
        # -|l| as l - 2 max(l, 0), whose gradient is right at 0 too.
        softplus_of_minus = ops.log1p(ops.exp(logits - 2.0 * positive))
        event = ops.cast(event, logits.dtype)
        energy = positive - event * logits
        energy = ops.where((energy > 0.0) & ops.isinf(given), math.inf, energy)
        return -energy - softplus_of_minus
