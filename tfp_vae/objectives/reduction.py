"""Keras' own way from one loss an example to one for the batch."""

import keras

from tfp_vae.substrate import Tensor

__all__ = ["Reduction"]


class Reduction(keras.losses.Loss):
    """Reduces what is a loss already: weights, masks and replicas included."""

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        return y_pred
