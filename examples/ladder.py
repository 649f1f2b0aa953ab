"""A ladder VAE: two layers of latents, of which encoder and prior share a path.

The encoder goes up, x -> d1 -> d2, draws z2, and comes down again: z1 is drawn
from what d1 says times what the prior p(z1|z2) says. So posterior and prior are
joint distributions of the parts z2 and z1, and fit logs the KL of each. Beside
it the plain VAE of the same decoder. The data are scikit-learn's digits, each
pixel drawn once.

    python examples/ladder.py
    KERAS_BACKEND=jax python examples/ladder.py
"""

import argparse

import keras
import numpy as np
from sklearn.datasets import load_digits

from tfp_vae import ELBO, VAE
from tfp_vae.layers import (
    Head,
    IndependentBernoulli,
    MultivariateNormalDiag,
    OverSamples,
)
from tfp_vae.objectives import LinearWarmup
from tfp_vae.substrate import tfd

Z1, Z2, HIDDEN, BATCH = 12, 4, 128, 64


def mlp(*heads: keras.layers.Layer) -> keras.Sequential:
    """One hidden layer, and what comes after it."""
    return keras.Sequential([keras.layers.Dense(HIDDEN, "relu"), *heads])


@keras.saving.register_keras_serializable("ladder")
class TopDown(keras.Model):
    """The prior p(z2) p(z1|z2)."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.network = OverSamples(mlp(Head(MultivariateNormalDiag(Z1))))

    def z1(self, z2):
        return self.network(z2)

    def call(self, inputs=None):
        zeros = keras.ops.zeros(Z2)
        z2 = tfd.MultivariateNormalDiag(zeros, keras.ops.ones(Z2))
        return tfd.JointDistributionNamed(
            {"z2": z2, "z1": lambda z2: self.z1(z2)}
        )


def product(p, q):
    """The normalised product of two Gaussians: their precisions add up."""
    precision_p, precision_q = p.stddev() ** -2, q.stddev() ** -2
    variance = 1 / (precision_p + precision_q)
    mean = variance * (precision_p * p.mean() + precision_q * q.mean())
    return tfd.MultivariateNormalDiag(mean, keras.ops.sqrt(variance))


@keras.saving.register_keras_serializable("ladder")
class Ladder(keras.Model):
    """The posterior q(z2|x) q(z1|z2, x)."""

    def __init__(self, top_down: TopDown, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.top_down = top_down
        self.up1, self.up2 = mlp(), mlp()
        self.head1 = Head(MultivariateNormalDiag(Z1))
        self.head2 = Head(MultivariateNormalDiag(Z2))

    def call(self, x):
        d1 = self.up1(x)
        below = self.head1(d1)
        return tfd.JointDistributionNamed(
            {
                "z2": self.head2(self.up2(d1)),
                "z1": lambda z2: product(self.top_down.z1(z2), below),
            }
        )

    def get_config(self):
        # Keras saves the layer that both share once.
        shared = keras.saving.serialize_keras_object(self.top_down)
        return {**super().get_config(), "top_down": shared}

    @classmethod
    def from_config(cls, config):
        shared = keras.saving.deserialize_keras_object(config.pop("top_down"))
        return cls(shared, **config)


def models(pixels: int, steps: int) -> dict[str, VAE]:
    """The ladder, and a plain VAE with the same decoder."""
    z1 = keras.Input((Z1,), name="z1")
    decoder = keras.Model(z1, mlp(Head(IndependentBernoulli(pixels)))(z1))
    top_down = TopDown()
    # As Sonderby et al. (2016): else the decoder soon does without one part.
    rise = {"z1": LinearWarmup(steps / 2), "z2": LinearWarmup(steps / 2)}
    return {
        "ladder": VAE(
            Ladder(top_down),
            decoder,
            top_down,
            objective=ELBO(beta=rise),
            seed=0,
        ),
        "plain": VAE(
            mlp(mlp(), Head(MultivariateNormalDiag(Z1))),
            mlp(Head(IndependentBernoulli(pixels))),
            seed=0,
        ),
    }


def main() -> dict[str, float]:
    """Runs the example; log p(x) of held-out images, by model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--limit", type=int, help="images to train on")
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    grey = load_digits().data / 16
    ink = (np.random.default_rng(0).random(grey.shape) < grey).astype("float32")
    train, test = ink[:1437][: options.limit], ink[1437:][: options.limit]
    steps = options.epochs * -(-len(train) // BATCH)

    found = {}
    for name, vae in models(ink.shape[1], steps).items():
        vae.compile(keras.optimizers.Adam(2e-3))
        vae.fit(train, batch_size=BATCH, epochs=options.epochs, verbose=0)
        logs = vae.evaluate(test, verbose=0, return_dict=True)
        exact = vae.marginal_log_likelihood(test, 200, seed=0)
        found[name] = float(exact.log_likelihood.mean())
        kl = {n: f"{v:.1f}" for n, v in logs.items() if n.startswith("kl")}
        print(f"{name}: log p(x) {found[name]:.2f} nats, KL {kl}")
    return found


if __name__ == "__main__":
    main()
