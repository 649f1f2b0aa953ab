"""Stops a training run whose loss is no longer a number."""

import math
from typing import Any

import keras
import numpy as np

__all__ = ["NonFiniteGuard", "NonFiniteLossError", "all_finite"]

_REMEDIES = {
    "log_likelihood": (
        "the likelihood has become too narrow for some example, or the decoder "
        "has overflowed: lower the learning rate, clip gradients (clipnorm=1.0 "
        'in the optimizer), raise min_scale or take scale="shared" in the '
        "decoder's last layer, and look for NaN and outliers in the data"
    ),
    "kl": (
        "the posterior has collapsed to a point or run away: lower the "
        "learning rate, clip gradients (clipnorm=1.0 in the optimizer), or "
        "put a higher floor under the posterior's scale (min_scale of "
        "MultivariateNormalDiag); and look for NaN in the data"
    ),
    "loss": (
        "both terms of the objective are finite, so look at the regularizers "
        "and added losses"
    ),
    "weights": (
        "the last update of the epoch was too large: lower the learning rate, "
        "or clip gradients (clipnorm=1.0 in the optimizer)"
    ),
}


class NonFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite while training.

    The message names the term, the step and what to try. The model holds the
    weights and the optimizer the state of the last good epoch.

    Attributes:
        term: "log_likelihood", "kl", "log_likelihood and kl", "loss", or
            "weights" if the loss was still finite.
        epoch: the epoch, counted from 1.
        step: the step in the epoch, counted from 1. With
            `steps_per_execution` above 1, the last one of the execution.
    """

    def __init__(self, term: str, epoch: int, step: int) -> None:
        self.term = term
        self.epoch = epoch
        self.step = step
        remedy = _REMEDIES[term.split(" ")[0]]
        kept = (
            f"those of the end of epoch {epoch - 1}"
            if epoch > 1
            else "those from before the call of fit"
        )
        super().__init__(
            f"{term} became NaN or infinite at step {step} of epoch {epoch}: "
            f"{remedy}. The weights and the state of the optimizer are again "
            f"{kept}."
        )


def all_finite(variables: list[keras.Variable]) -> bool:
    """Whether variables hold neither NaN nor infinity.

    Args:
        variables: of floating dtypes.

    Returns:
        A bool.
    """
    return all(
        np.isfinite(keras.ops.convert_to_numpy(keras.ops.sum(v)))
        or np.isfinite(keras.ops.convert_to_numpy(v)).all()
        for v in variables
    )


class NonFiniteGuard(keras.callbacks.Callback):
    """Raises `NonFiniteLossError` at the first step that is not finite.

    It keeps a copy in memory of the model's and the optimizer's variables from
    the end of every epoch, which `restore` puts back.
    """

    # Then Keras may call it from a thread, and training does not wait for the
    # numbers of each step.
    async_safe = True
    # It does not need each step: several may run at once.
    follows_batches = False

    def __init__(self) -> None:
        super().__init__()
        self._good: list[np.ndarray] = []
        self._epoch = 0
        self._step = 0
        self._failed: NonFiniteLossError | None = None

    def _variables(self) -> list[keras.Variable]:
        return [*self.model.variables, *self.model.optimizer.variables]

    def _keep(self) -> None:
        self._good = [
            np.array(keras.ops.convert_to_numpy(variable))
            for variable in self._variables()
        ]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._good = []

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if not self._good:
            # Not when training begins: `BackupAndRestore` may not yet have put
            # back the weights of a run that was killed.
            self._keep()
        self._epoch = epoch + 1
        self._step = 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # Keras counts an execution in full, even if the epoch ended inside it.
        step = min(batch + 1, self.params.get("steps") or batch + 1)
        self._step = max(self._step, step)
        # The logs are running means: from the first bad step on they are bad.
        bad = [
            term
            for term, value in (logs or {}).items()
            if term in _REMEDIES and not math.isfinite(value)
        ]
        if not bad:
            return
        terms = [term for term in bad if term != "loss"] or ["loss"]
        error = NonFiniteLossError(
            " and ".join(sorted(terms, reverse=True)), self._epoch, step
        )
        # With calls from several threads, later steps may come first.
        if self._failed is None or error.step < self._failed.step:
            self._failed = error
        raise self._failed

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # The loss of a step is computed before its update.
        if not all_finite(self.model.trainable_variables):
            raise NonFiniteLossError("weights", self._epoch, self._step)
        self._keep()

    def restore(self) -> None:
        """Puts back the variables of the last good epoch, if one has begun."""
        if not self._good:
            return
        for variable, value in zip(self._variables(), self._good, strict=True):
            variable.assign(value)
