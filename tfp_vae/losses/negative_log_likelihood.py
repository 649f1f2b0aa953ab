"""Minus the log density, as a Keras loss."""

import keras
from keras import ops

from tfp_vae import checks
from tfp_vae.reduction import reduce_loss
from tfp_vae.substrate import Tensor, tfd

__all__ = ["NegativeLogLikelihood"]


@keras.saving.register_keras_serializable("tfp_vae")
class NegativeLogLikelihood(keras.losses.Loss):
    """Minus the log density of the target, for models that return a density.

    ```none
    loss = -log p(y_true),   p = y_pred,   [B], nats per example
    ```

    summed over the event, and then reduced over the batch like every Keras
    loss. The result has the dtype of the likelihood.

    Take it with `tfp_vae.Sequential` or `tfp_vae.Model`, on both backends. A
    plain Keras model trains with it on TensorFlow; on JAX Keras first runs loss
    and metrics on placeholders, which no TFP distribution can hold. On both,
    its `predict` can only join batches of tensors.

    Args:
        reduction: of `keras.losses.Loss`: `"sum_over_batch_size"`, `"mean"`,
            `"mean_with_sample_weight"`, `"sum"`, `"none"` or None.
        name: of the loss.

    Call arguments:
        y_true: `[B, *event]`, of the likelihood's dtype or of an integer one.
        y_pred: a `tfd.Distribution` of batch shape `[B]` over the event.
        sample_weight: `[B]`, the weight of each example, or None.

    Returns:
        A scalar, or `[B]` without a reduction, in nats (per example, unless
        summed).

    Raises:
        TypeError: if `y_pred` is not a distribution.
        ValueError: while tracing, if event shape, batch shape or dtype do not
            fit the target, or there is none.

    Example:
    ```python
    model = tfp_vae.Sequential([
        keras.Input((8,)),
        keras.layers.Dense(IndependentNormal.params_size(1)),
        IndependentNormal(1),
    ])
    model.compile("adam", loss=NegativeLogLikelihood())
    model.fit(x, y)      # y: [N, 1]
    ```
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "negative_log_likelihood",
    ) -> None:
        super().__init__(name=name, reduction=reduction)

    def __call__(
        self,
        y_true: Tensor,
        y_pred: tfd.Distribution,
        sample_weight: Tensor = None,
    ) -> Tensor:
        # Replaces Keras' method, which would turn the distribution into a
        # tensor. Keras does everything after that.
        losses = self.call(y_true, y_pred)
        return reduce_loss(losses, sample_weight, self.reduction, self.name)

    def call(self, y_true: Tensor, y_pred: tfd.Distribution) -> Tensor:
        """The loss of each example.

        Args:
            y_true: `[B, *event]`.
            y_pred: a distribution of batch shape `[B]`.

        Returns:
            `[B]`, nats.

        Raises:
            TypeError, ValueError: see the class.
        """
        checks.check_is_distribution(y_pred, "the model", "IndependentNormal")
        y_true = None if y_true is None else ops.convert_to_tensor(y_true)
        if y_true is None or not len(y_true.shape):
            received = None if y_true is None else "a scalar"
            raise ValueError(
                "A likelihood is one of targets: y_true of shape [B, *event], "
                "as in model.fit(x, y). For a model of x itself pass "
                f"fit(x, x), or take a VAE. Received: {received}."
            )
        checks.check_likelihood(y_pred, y_true, None)
        log_prob = y_pred.log_prob(checks.in_dtype_of(y_pred, y_true))
        checks.check_log_prob(log_prob, y_pred)
        return -log_prob
