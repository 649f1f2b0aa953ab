"""Relaxed one-hot vectors, and their divergence from categorical ones."""

from typing import Any

from keras import ops

from tfp_vae.substrate import Tensor, tfd

__all__ = ["StraightThroughOneHotCategorical"]


class StraightThroughOneHotCategorical(tfd.RelaxedOneHotCategorical):
    """Draws one-hot vectors, with the gradient of relaxed ones.

    ```none
    y = softmax((logits + Gumbel noise) / temperature)
    z = one_hot(argmax y)            dz is taken for dy
    ```

    The gradient is biased. At a lower temperature its bias is smaller and its
    variance larger. A draw has no density: `log_prob` is not implemented, and
    the KL divergence from a categorical distribution is exact.

    Args:
        temperature: positive, batch shape.
        logits: batch shape + `[K]`.
      probs: instead of logits.
        validate_args: as in TFP.
        allow_nan_stats: as in TFP.
        name: as in TFP.

    Reference:
        Jang, Gu, Poole. Categorical reparameterization with Gumbel-softmax.
        ICLR 2017. https://arxiv.org/abs/1611.01144
    """

    def __init__(
        self,
        temperature: Any,
        logits: Any = None,
        probs: Any = None,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "StraightThroughOneHotCategorical",
    ) -> None:
        super().__init__(
            temperature, logits, probs, validate_args, allow_nan_stats, name
        )

    @classmethod
    def _parameter_properties(
        cls, dtype: Any, num_classes: int | None = None
    ) -> dict[str, Any]:
        return super()._parameter_properties(dtype, num_classes)

    def _call_sample_n(
        self, sample_shape: Any, seed: Any, **kwargs: Any
    ) -> Tensor:
        y = super()._call_sample_n(sample_shape, seed, **kwargs)
        hard = ops.one_hot(ops.argmax(y, axis=-1), y.shape[-1], dtype=y.dtype)
        # The value of `hard` to the last bit.
        return hard + (y - ops.stop_gradient(y))

    def _log_prob(self, y: Tensor) -> Tensor:
        raise NotImplementedError(
            "A straight-through draw is one-hot and has no density under the "
            "relaxed distribution: take an ELBO with a categorical prior, "
            "whose KL divergence is exact, or straight_through=False."
        )


@tfd.RegisterKL(tfd.RelaxedOneHotCategorical, tfd.OneHotCategorical)
def _kl_relaxed_categorical(
    q: Any, p: tfd.Distribution, name: str | None = None
) -> Tensor:
    """The KL of the categorical distribution that is relaxed (Jang et al.)."""
    categorical = tfd.OneHotCategorical(logits=q.logits_parameter())
    return tfd.kl_divergence(categorical, p)
