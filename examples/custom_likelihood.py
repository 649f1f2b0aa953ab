"""A likelihood of your own: wind directions, angles on a circle.

The script declares the cardioid distribution, checks that it is normalised,
trains a VAE with it on the vanes of twelve weather stations, and draws new
readings.

    python examples/custom_likelihood.py
"""

import argparse
import math

import keras
import numpy as np
from keras import ops

from tfp_vae import VAE, layers
from tfp_vae.substrate import samplers, tfd, tfp


class Cardioid(tfd.AutoCompositeTensorDistribution):
    """p(x) = (1 + 2 rho cos(x - loc)) / (2 pi) for an angle x, rho < 1/2."""

    def __init__(self, loc, rho, validate_args=False):
        parameters = dict(locals())
        self.loc, self.rho = map(ops.convert_to_tensor, (loc, rho))
        kind = (self.loc.dtype, tfd.NOT_REPARAMETERIZED)
        super().__init__(*kind, validate_args, True, parameters)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return dict.fromkeys(("loc", "rho"), tfp.util.ParameterProperties())

    def _event_shape(self):
        return ()

    def _log_prob(self, x):
        density = 2 * self.rho * ops.cos(x - self.loc)
        return ops.log1p(density) - math.log(2 * math.pi)

    def _sample_n(self, n, seed=None):
        shape, seeds = (n, *self.batch_shape), samplers.split_seed(seed)
        angle, u = (samplers.uniform(shape, seed=s) for s in seeds)
        angle = 2 * math.pi * angle  # or the opposite one, less likely
        stays = 2 * u < 1 + 2 * self.rho * ops.cos(angle)
        return self.loc + ops.where(stays, angle, angle + math.pi)


@keras.saving.register_keras_serializable()
class IndependentCardioid(layers.IndependentLayer):
    """The layer: two parameters per vane, rho by a sigmoid."""

    parameters = ("loc", "rho")

    def element_distribution(self, loc, rho):
        return Cardioid(loc, 0.5 * ops.sigmoid(rho))


def main() -> None:
    """Checks, trains, draws."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    epochs = parser.parse_args().epochs

    angles = np.linspace(0, 2 * math.pi, 1001, dtype="float32")
    mass = ops.mean(Cardioid(1.0, 0.4).prob(angles[:-1])) * 2 * math.pi
    print(f"The density integrates to {float(mass):.6f}")

    rng = np.random.default_rng(0)
    wind = rng.uniform(0, 2 * math.pi, (2000, 1))
    station = np.linspace(-0.5, 0.5, 12)
    x = wind + station + rng.normal(0, 0.5, (2000, 12))
    x = x.astype("float32") % np.float32(2 * math.pi)

    inputs = keras.Input((12,))
    hidden = ops.concatenate([ops.cos(inputs), ops.sin(inputs)], axis=-1)
    hidden = keras.layers.Dense(64, "relu")(hidden)
    hidden = keras.layers.Dense(4)(hidden)
    encoder = keras.Model(inputs, layers.MultivariateNormalDiag(2)(hidden))
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(64, "relu"),
            keras.layers.Dense(IndependentCardioid.params_size(12)),
            IndependentCardioid(12),
        ]
    )
    vae = VAE(encoder, decoder, seed=0)
    vae.compile(keras.optimizers.Adam(3e-3))
    vae.fit(x[:1600], validation_data=x[1600:], epochs=epochs, verbose=2)
    uniform = -12 * math.log(2 * math.pi)
    elbo = -vae.evaluate(x[1600:], verbose=0)[0]
    print(f"Held-out ELBO {elbo:.2f} nats; no knowledge at all {uniform:.2f}")
    draws = ops.convert_to_numpy(vae.sample(3, seed=1)) % (2 * math.pi)
    print("Three fresh readings, in degrees:")
    print(np.degrees(draws).round().astype(int))


if __name__ == "__main__":
    main()
