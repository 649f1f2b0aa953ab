"""After a NaN the model gets the last good weights back."""

import keras
import numpy as np
import pytest
from support import numpy

from tfp_vae import VAE, layers
from tfp_vae.models import NonFiniteLossError

X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")


def made():
    keras.utils.set_random_seed(3)
    vae = VAE(
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(4),
                layers.MultivariateNormalDiag(2),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(8),
                layers.IndependentNormal(4),
            ]
        ),
        seed=1,
    )
    vae.compile(keras.optimizers.Adam(0.01))
    return vae


class Break(keras.callbacks.Callback):
    """Makes a weight NaN before the first step."""

    def __init__(self):
        super().__init__()
        self.is_done = False

    def on_train_batch_begin(self, batch, logs=None):
        if not self.is_done:
            self.is_done = True
            variable = self.model.trainable_variables[0]
            variable.assign(np.nan * numpy(variable))


class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_a_resumed_run_keeps_what_it_had_learned(tmp_path):
    def fit(vae, callback):
        backup = keras.callbacks.BackupAndRestore(
            tmp_path, delete_checkpoint=False
        )
        vae.fit(X, epochs=4, verbose=0, callbacks=[backup, callback])

    first, again = made(), made()
    with pytest.raises(KeyboardInterrupt):
        fit(first, Kill())
    learned = [numpy(v) for v in first.trainable_variables]
    fresh = [numpy(v) for v in again.trainable_variables]
    assert (learned[0] != fresh[0]).any()
    with pytest.raises(NonFiniteLossError, match="end of epoch 2"):
        fit(again, Break())
    for variable, value in zip(again.trainable_variables, learned, strict=True):
        np.testing.assert_allclose(numpy(variable), value, rtol=1e-6)
