"""TFP's notebook "Probabilistic Layers: VAE", with the imports changed.

It has the notebook's network, prior and regularizer, with the right loss. In
the notebook the KL divergence entered twice (tensorflow/probability issue
1215), so its loss was not a bound on log p(x). Here both figures are computed
from one model.

    python examples/layers_vae.py --data mnist.npz --epochs 15
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from mnist import load

import tfp_vae
import tfp_vae.tfp_layers as tfpl
from tfp_vae.distributions import kl_divergence
from tfp_vae.substrate import tfd

SHAPE = (28, 28, 1)
SIZE = 16  # of the encoding
DEPTH = 32


def model() -> tuple[keras.Model, keras.Model]:
    """The notebook's VAE, and its encoder."""
    layers = keras.layers
    prior = tfd.Independent(
        tfd.Normal(loc=np.zeros(SIZE, "float32"), scale=np.float32(1)),
        reinterpreted_batch_ndims=1,
    )
    same = {"padding": "same", "activation": "leaky_relu"}
    encoder = tfp_vae.Sequential(
        [
            keras.Input(SHAPE),
            layers.Rescaling(1.0, offset=-0.5),
            layers.Conv2D(DEPTH, 5, strides=1, **same),
            layers.Conv2D(DEPTH, 5, strides=2, **same),
            layers.Conv2D(2 * DEPTH, 5, strides=1, **same),
            layers.Conv2D(2 * DEPTH, 5, strides=2, **same),
            layers.Conv2D(4 * SIZE, 7, activation="leaky_relu"),
            layers.Flatten(),
            layers.Dense(tfpl.MultivariateNormalTriL.params_size(SIZE)),
            tfpl.MultivariateNormalTriL(
                SIZE,
                activity_regularizer=tfpl.KLDivergenceRegularizer(prior),
            ),
        ]
    )
    decoder = tfp_vae.Sequential(
        [
            keras.Input((SIZE,)),
            layers.Reshape([1, 1, SIZE]),
            layers.Conv2DTranspose(2 * DEPTH, 7, activation="leaky_relu"),
            layers.Conv2DTranspose(2 * DEPTH, 5, strides=1, **same),
            layers.Conv2DTranspose(2 * DEPTH, 5, strides=2, **same),
            layers.Conv2DTranspose(DEPTH, 5, strides=1, **same),
            layers.Conv2DTranspose(DEPTH, 5, strides=2, **same),
            layers.Conv2DTranspose(DEPTH, 5, strides=1, **same),
            layers.Conv2D(1, 5, padding="same"),
            layers.Flatten(),
            tfpl.IndependentBernoulli(SHAPE, tfd.Bernoulli.logits),
        ]
    )
    vae = tfp_vae.Model(encoder.inputs, decoder(encoder.outputs[0]))
    return vae, encoder


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="a file like Keras' mnist.npz"
    )
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--limit", type=int, help="train on so many images")
    parser.add_argument("--test-limit", type=int, default=2000)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x_train, x_test = (
        (rng.random(x.shape) < x).astype("float32") for x in load(options.data)
    )
    x_train, x_test = x_train[: options.limit], x_test[: options.test_limit]

    vae, encoder = model()
    vae.compile(
        keras.optimizers.Adam(1e-3), loss=lambda x, rv_x: -rv_x.log_prob(x)
    )
    vae.fit(
        x_train,
        x_train,
        batch_size=256,
        epochs=options.epochs,
        validation_data=(x_test, x_test),
        verbose=2,
    )
    loss = vae.evaluate(x_test, x_test, verbose=0)
    prior = tfd.MultivariateNormalDiag(np.zeros(SIZE, "float32"))
    kl = np.mean(
        [
            keras.ops.convert_to_numpy(
                kl_divergence(encoder(batch), prior)
            ).mean()
            for batch in np.array_split(x_test, -(-len(x_test) // 256))
        ]
    )
    print(f"held-out ELBO                        {-loss:9.2f} nats")
    print(f"with the KL counted twice, as it was {-(loss + kl):9.2f} nats")


if __name__ == "__main__":
    main()
