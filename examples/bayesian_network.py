"""A Bayesian neural network on a table: what it knows, and what it does not.

In the manner of the page "Probabilistic Bayesian Neural Networks" of keras.io,
on scikit-learn's table of diabetes. The uncertainty of a prediction has two
parts: the noise of the data (aleatoric), and what the weights might be
(epistemic), which grows where there are no data and where there are few.

    python examples/bayesian_network.py
"""

import argparse

import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_diabetes

import tfp_vae
from tfp_vae.evaluation import posterior_predictive
from tfp_vae.layers import DenseFlipout, IndependentNormal
from tfp_vae.losses import NegativeLogLikelihood, scaled_kl


def standardized(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """In units of the training data."""
    return ((x - train.mean(0)) / train.std(0)).astype("float32")


def network(num_features: int, num_examples: int) -> keras.Model:
    """Two layers of uncertain weights, and a Normal."""
    kl = scaled_kl(num_examples)
    return tfp_vae.Sequential(
        [
            keras.Input((num_features,)),
            DenseFlipout(16, "tanh", kernel_divergence_fn=kl),
            DenseFlipout(2, kernel_divergence_fn=kl),
            IndependentNormal(1),
        ]
    )


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--draws", type=int, default=50)
    options = parser.parse_args()
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:-100], order[-100:]
    x_train, x_test = (standardized(x[i], x[train]) for i in (train, test))
    y = standardized(y[:, None], y[train, None])

    print(
        "examples  test nats a patient  epistemic  aleatoric stddev  far away"
    )
    for size in (len(train) // 8, len(train)):
        keras.utils.set_random_seed(0)
        model = network(x.shape[1], size)
        model.compile(keras.optimizers.Adam(0.01), NegativeLogLikelihood())
        model.fit(
            x_train[:size],
            y[train][:size],
            batch_size=32,
            epochs=options.epochs,
            verbose=0,
        )
        found = posterior_predictive(model, x_test, options.draws)
        log_prob = ops.mean(found.distribution.log_prob(y[test]))
        far = posterior_predictive(model, 4 * x_test, options.draws)
        epistemic, aleatoric, away = (
            float(ops.mean(ops.sqrt(variance)))
            for variance in (found.epistemic, found.aleatoric, far.epistemic)
        )
        print(
            f"{size:8}  {float(log_prob):19.3f}  {epistemic:9.3f}  "
            f"{aleatoric:16.3f}  {away:8.3f}"
        )


if __name__ == "__main__":
    main()
