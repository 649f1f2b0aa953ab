"""The importance-weighted bound, and its three gradients."""

import math
import threading
from typing import Any

import keras
import numpy as np
from keras import ops

from tfp_vae.objectives.batch import Batch
from tfp_vae.objectives.objective import Objective
from tfp_vae.substrate import Tensor

__all__ = ["IWAE"]


@keras.saving.register_keras_serializable("tfp_vae")
class IWAE(Objective):
    """The importance-weighted evidence lower bound.

    ```none
    w_s       = p(x|z_s) p(z_s) / q(z_s|x),     z_s ~ q(z|x),  s = 1..S
    objective = log(1/S sum_s w_s)        <= log p(x) in the mean, tight for
                                             S -> inf; the ELBO for S = 1
    ```

    As S grows, the encoder's gradient in the standard estimator becomes small
    compared with its noise. With v_s = w_s / sum w, the gradient at the samples
    is, instead of v_s d log w_s / dz minus the score of q,

    - `"stl"`: v_s d log w_s / dz alone, biased for S > 1;
    - `"dreg"`: v_s**2 d log w_s / dz, unbiased.

    Decoder and prior have the standard gradient under all three. With `"dreg"`
    the whole gradient at the samples is weighted, including that of a loss that
    a layer of the decoder adds.

    Args:
        num_samples: S.
        gradient: `"standard"`, `"stl"` (sticking the landing) or `"dreg"`
            (doubly reparameterised).
        kl: how the reported `kl` is computed: see `Objective`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: data, `[B, *event]`.
        posterior: q(z|x), a distribution of batch shape `[B]`.
        likelihood: p(x|z), of batch shape `[S, B]`, or `[S * B]`, sample by
            sample.
        prior: p(z), of batch shape `[]` or `[B]`; by default standard normal.
        z: the samples, `[S, B, *latent]`. With `"dreg"` they are marked first,
            so that the gradient from the decoder can be weighted:
            `z = iwae.latents(posterior.sample(S))`. A `VAE` does so.

    Returns:
        `ObjectiveTerms`: the `log_likelihood` and `kl` of the ELBO, and the
        bound as `objective`, each `[B]`, nats per example.

    Raises:
        TypeError, ValueError: see `Objective`.

    Example:
    ```python
    vae = VAE(encoder, decoder, objective=IWAE(50, gradient="dreg"))
    ```

    References:
        Burda, Grosse, Salakhutdinov. Importance weighted autoencoders. ICLR
        2016. https://arxiv.org/abs/1509.00519
        Roeder, Wu, Duvenaud. Sticking the landing. NeurIPS 2017.
        https://arxiv.org/abs/1703.09194
        Tucker, Lawson, Gu, Maddison. Doubly reparameterized gradient
        estimators for Monte Carlo objectives. ICLR 2019.
        https://arxiv.org/abs/1810.04152
    """

    def __init__(
        self,
        num_samples: int,
        gradient: str = "standard",
        kl: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_samples, kl, **kwargs)
        if gradient not in ("standard", "stl", "dreg"):
            raise ValueError(
                'gradient is one of "standard", "stl" and "dreg". Received: '
                f"gradient={gradient!r}."
            )
        self.gradient = gradient
        # The samples that were marked last, and their channels: separate for
        # each replica, since replicas run in threads.
        self._marked = threading.local()

    def latents(self, z: Any) -> Any:
        if self.gradient != "dreg" or self.num_samples == 1:
            return z
        parts = keras.tree.flatten(z)
        leading = tuple(ops.shape(parts[0])[:2])
        flat = [
            ops.reshape(p, (*leading, math.prod(p.shape[2:]))) for p in parts
        ]
        # All at once: what one part gets is weighed as what the others get.
        marked = _mark(ops.concatenate(flat, axis=-1))
        ends = np.cumsum([p.shape[-1] for p in flat]).tolist()
        *values, channels = ops.split(marked, ends, axis=-1)
        parts = [
            ops.reshape(value, ops.shape(part))
            for value, part in zip(values, parts, strict=True)
        ]
        self._marked.last = parts, channels
        return keras.tree.pack_sequence_as(z, parts)

    def combine(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        log_weights = batch.log_weights(path_only=self.gradient != "standard")
        size = ops.cast(ops.shape(log_weights)[0], log_weights.dtype)
        bound = ops.logsumexp(log_weights, axis=0) - ops.log(size)
        if self.gradient != "dreg" or self.num_samples == 1:
            return bound, {}
        weights = ops.stop_gradient(ops.softmax(log_weights, axis=0))
        channels = self._channels(batch.samples())
        # Zeros, whose gradients are the weights and 1.
        weighted = ops.sum(weights * channels[..., 0], axis=0)
        return bound + weighted + ops.sum(channels[..., 1], axis=0), {}

    def _channels(self, z: Any) -> Tensor:
        """The channels of the samples that were marked last."""
        marked = vars(self._marked).pop("last", None)
        parts = keras.tree.flatten(z)
        if marked is None or any(
            a is not b for a, b in zip(marked[0], parts, strict=True)
        ):
            raise ValueError(
                'gradient="dreg" weights the gradient that the decoder sends '
                "back to the samples: pass them through latents() of this "
                "objective before the decoder, z = iwae.latents(z). Received: "
                f"other samples, of shape {tuple(parts[0].shape)}."
            )
        return marked[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gradient": self.gradient}


@ops.custom_gradient
def _mark(z: Tensor) -> tuple[Tensor, Any]:
    """Samples `[S, B, k]` with two channels of zeros, `[S, B, k + 2]`.

    The weight of a sample is known only after the decoder has run. So it comes
    back with the gradient: the gradient of the first channel is the weight
    times that of the example, the gradient of the second channel is that of the
    example, and the gradient of z is weighted by their ratio.
    """

    def gradient(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
        (upstream,) = args if upstream is None else (upstream,)
        weighted, plain = upstream[..., -2:-1], upstream[..., -1:]
        # An example of weight zero has no gradient to weigh.
        known = plain != 0
        ratio = weighted / ops.where(known, plain, ops.ones_like(plain))
        return upstream[..., :-2] * ops.where(known, ratio, 0.0)

    padding = [*[(0, 0)] * (len(z.shape) - 1), (0, 2)]
    return ops.pad(z, padding), gradient
