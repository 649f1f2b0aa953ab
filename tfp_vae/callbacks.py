"""Callbacks that watch a model while it trains."""

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.entries import x_of
from tfp_vae.evaluation import coordinate_kl
from tfp_vae.evaluation.model import prior_of
from tfp_vae.substrate import tfp_seed
from tfp_vae.training.data import as_keras_would

__all__ = ["PosteriorCollapse", "PosteriorCollapseWarning"]

# Rows that are used, in total and at a time.
_ROWS = 1024
_BATCH = 128

# Draws for each example, where no closed form of the KL is known: always the
# same, so that epochs differ only by the weights.
_SAMPLES = 16
_SEED = 0


class PosteriorCollapseWarning(UserWarning):
    """Latent coordinates carry no information about the data."""


class PosteriorCollapse(keras.callbacks.Callback):
    """Counts the latent coordinates in use, and warns when some collapse.

    ```none
    l is active   if   mean over x of KL(q(z_l|x) || p(z_l)) > threshold
    ```

    It adds `active_units` to the logs of each epoch, and so to the history, and
    warns once per run. It works only at the end of epochs and does not slow
    single steps.

    Args:
        x: data, `[N, *event]`, or a dict of them and of conditions; the first
            1,024 examples are used.
        threshold: nats, averaged over the examples.
        patience: how many times in a row a coordinate must be inactive to count
            as collapsed.
        frequency: it counts in the first epoch of a run and every
            `frequency`-th after it; between these the logs repeat the last
            count.

    Raises:
        ValueError: if there are no data or a number is out of range.
        NotImplementedError: when training begins, if the coordinates of the
            posterior or the prior are not independent.

    Example:
    ```python
    vae.fit(x, epochs=50, callbacks=[PosteriorCollapse(x[:1000])])
    ```

    Reference:
        Bowman et al. Generating sentences from a continuous space. CoNLL 2016.
        https://arxiv.org/abs/1511.06349
    """

    def __init__(
        self,
        x: Any,
        threshold: float = 0.01,
        patience: int = 5,
        frequency: int = 1,
    ) -> None:
        super().__init__()
        if not threshold >= 0 or min(patience, frequency) < 1:
            raise ValueError(
                "threshold is >= 0, patience and frequency are at least 1. "
                f"Received: threshold={threshold}, patience={patience}, "
                f"frequency={frequency}."
            )
        data = keras.tree.map_structure(lambda a: as_keras_would(a)[:_ROWS], x)
        if not x_of(data).size:
            raise ValueError(
                "Collapse needs data, an array [N, *event] with N > 0. "
                f"Received: shape {x_of(data).shape}."
            )
        self._x = data
        self.threshold = threshold
        self.patience = patience
        self.frequency = frequency
        self._epochs = 0
        self._times: Any = 0
        self._active_units = 0
        self._warned = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._epochs = 0
        self._times = 0
        self._warned = False
        # A model that does not allow this is refused now, not after an epoch.
        self._kl(self._rows(0, 1))

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # Counted here, since a resumed run may begin at any epoch.
        if self._epochs % self.frequency == 0:
            self._look()
        self._epochs += 1
        if logs is not None:
            logs["active_units"] = self._active_units

    def _rows(self, start: int, end: int) -> Any:
        return keras.tree.map_structure(lambda a: a[start:end], self._x)

    def _kl(self, x: Any) -> np.ndarray:
        """The KL of each coordinate, summed over examples, `[*latent]`."""
        # Not compiled: on JAX each epoch's weights would be compiled again.
        x = keras.tree.map_structure(ops.convert_to_tensor, x)
        posterior = self.model.encode(x)
        prior = prior_of(self.model, posterior, x)
        kl = coordinate_kl(posterior, prior, _SAMPLES, tfp_seed(_SEED))
        return ops.convert_to_numpy(kl).astype("float64").sum(axis=0)

    def _look(self) -> None:
        count = len(x_of(self._x))
        starts = range(0, count, _BATCH)
        kl = sum(self._kl(self._rows(a, a + _BATCH)) for a in starts)
        inactive = kl / count <= self.threshold
        self._active_units = int((~inactive).sum())
        self._times = np.where(inactive, self._times + 1, 0)
        collapsed = np.argwhere(self._times >= self.patience)
        if not len(collapsed) or self._warned:
            return
        self._warned = True
        places = [
            place[0] if len(place) == 1 else tuple(place)
            for place in collapsed.tolist()
        ]
        who = (
            "All latent coordinates have"
            if len(places) == self._times.size
            else f"{len(places)} of {self._times.size} latent coordinates have"
        )
        warnings.warn(
            f"{who} collapsed to the prior: their mean KL has been at most "
            f"{self.threshold} nats {self.patience} time(s) in a row, so the "
            "decoder learns nothing from them. Collapsed: "
            f"{', '.join(map(str, places))}. This is harmless if there are "
            "more latents than the data need: take fewer. Otherwise raise "
            "beta slowly, ELBO(beta=LinearWarmup(...)); give each coordinate "
            "some free nats, ELBO(free_bits=...); take a smaller or weaker "
            "decoder, or a smaller or learned scale of the likelihood, with "
            "which detail counts more.",
            PosteriorCollapseWarning,
            stacklevel=2,
        )
