"""The Bernoulli distribution, at the cost of a binary cross-entropy."""

from typing import Any

from keras import ops

from tfp_vae.substrate import Tensor, as_tensor, multiply_no_nan, tfd

__all__ = ["Bernoulli"]


class Bernoulli(tfd.Bernoulli):
    """`tfd.Bernoulli` whose `log_prob` from logits takes one softplus, not two.

    ```none
    log p(x) = x l - softplus(l),        x in {0, 1},  l the logits
             = (x l - max(l, 0)) - log1p(exp(-|l|))
    ```

    The second line is computed: nothing cancels where x and l agree, and the
    gradient x - sigmoid(l) is right for every l, zero and infinity included.
    Infinite logits mean certainty: the log probability is 0 or -inf. For x
    between 0 and 1 it is minus the binary cross-entropy.

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
        logits = as_tensor(self._logits)
        event = ops.cast(event, logits.dtype)
        # l in two parts, so that infinite ones never meet as inf - inf. The
        # gradient at 0 is that of the lower part, on each backend.
        is_positive = logits > 0.0
        above = ops.where(is_positive, logits, 0.0)
        below = ops.where(is_positive, 0.0, logits)
        # x l - max(l, 0), as -|l| is below - above.
        exact = multiply_no_nan(below, event) - multiply_no_nan(
            above, 1.0 - event
        )
        return exact - ops.log1p(ops.exp(below - above))
