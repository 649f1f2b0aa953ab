"""TFP's notebook "Probabilistic Layers: Regression", all five cases.

1. No uncertainty: Normal(line, 1).
2. Aleatoric: the scatter is learned too.
3. Epistemic: the weights are uncertain.
4. Both.
5. Functional: a variational Gaussian process.

Imports and the loading of data differ from the notebook, `ops` stands for the
functions of TensorFlow. Beside them, which the notebook has not, case 2 with a
few wild targets, and with a Student-t in place of the Normal: one word.

    python examples/layers_regression.py --out out
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import ops

import tfp_vae
import tfp_vae.tfp_layers as tfpl
from tfp_vae.substrate import tfd, tfp

X_RANGE = (-20.0, 60.0)


def negloglik(y: np.ndarray, rv_y: tfd.Distribution) -> keras.KerasTensor:
    """The loss of cases 1 to 4."""
    return -rv_y.log_prob(y)


def load_dataset(
    n: int = 150, n_tst: int = 150, wild: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The notebook's data: y, x, and x to predict at."""
    rng = np.random.default_rng(43)
    low, high = X_RANGE
    x = (high - low) * rng.random(n) + low
    scatter = 3 * (0.25 + ((x - low) / (high - low)) ** 2)
    y = 0.125 * x * (1.0 + np.sin(x)) + 5.0 + rng.normal(size=n) * scatter
    y = np.where(rng.random(n) < wild, 150.0, y)
    x_tst = np.linspace(low, high, num=n_tst)
    return np.float32(y), np.float32(x[:, None]), np.float32(x_tst[:, None])


def posterior_mean_field(
    kernel_size: int, bias_size: int = 0, dtype: str | None = None
) -> keras.Model:
    """The surrogate posterior over weight matrix and bias."""
    n = kernel_size + bias_size
    c = np.log(np.expm1(1.0))
    return keras.Sequential(
        [
            tfpl.VariableLayer(2 * n, dtype=dtype),
            tfpl.DistributionLambda(
                lambda t: tfd.Independent(
                    tfd.Normal(
                        loc=t[..., :n],
                        scale=1e-5 + ops.softplus(c + t[..., n:]),
                    ),
                    reinterpreted_batch_ndims=1,
                )
            ),
        ]
    )


def prior_trainable(
    kernel_size: int, bias_size: int = 0, dtype: str | None = None
) -> keras.Model:
    """The prior over weight matrix and bias."""
    n = kernel_size + bias_size
    return keras.Sequential(
        [
            tfpl.VariableLayer(n, dtype=dtype),
            tfpl.DistributionLambda(
                lambda t: tfd.Independent(
                    tfd.Normal(loc=t, scale=1), reinterpreted_batch_ndims=1
                )
            ),
        ]
    )


class RBFKernelFn(keras.layers.Layer):
    """The kernel of case 5, of two weights."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._amplitude = self.add_weight(initializer="zeros", name="amplitude")
        self._length_scale = self.add_weight(
            initializer="zeros", name="length_scale"
        )

    @property
    def kernel(self) -> object:
        """For `VariationalGaussianProcess`."""
        return tfp.math.psd_kernels.ExponentiatedQuadratic(
            amplitude=ops.softplus(0.1 * self._amplitude),
            length_scale=ops.softplus(5.0 * self._length_scale),
        )


def learned_scatter(slope: float, family: type = tfd.Normal) -> object:
    """A distribution whose scale is linear in x, too."""
    return tfpl.DistributionLambda(
        lambda t: family(
            loc=t[..., :1], scale=1e-3 + ops.softplus(slope * t[..., 1:])
        )
    )


def student_t(loc: object, scale: object) -> tfd.Distribution:
    """A Student-t with heavy tails."""
    return tfd.StudentT(3.0, loc, scale)


def uncertain(units: int, num_examples: int) -> keras.layers.Layer:
    """The layer of cases 3 and 4."""
    return tfpl.DenseVariational(
        units,
        posterior_mean_field,
        prior_trainable,
        kl_weight=1 / num_examples,
    )


def gaussian_process(num_inducing_points: int = 40) -> list[object]:
    """The layers of case 5."""
    points = np.linspace(*X_RANGE, num=num_inducing_points, dtype="float32")
    return [
        keras.layers.Dense(1, kernel_initializer="ones", use_bias=False),
        tfpl.VariationalGaussianProcess(
            num_inducing_points=num_inducing_points,
            kernel_provider=RBFKernelFn(),
            event_shape=[1],
            inducing_index_points_initializer=keras.initializers.Constant(
                points[..., np.newaxis]
            ),
            unconstrained_observation_noise_variance_initializer=(
                keras.initializers.Constant(0.54)
            ),
        ),
    ]


def fit(
    layers: list[object],
    x: np.ndarray,
    y: np.ndarray,
    epochs: int,
    loss: object = negloglik,
    batch_size: int = 32,
) -> keras.Model:
    """A model of layers, trained."""
    model = tfp_vae.Sequential([keras.Input((1,)), *layers])
    model.compile(keras.optimizers.Adam(learning_rate=0.01), loss=loss)
    model.fit(x, y, batch_size=batch_size, epochs=epochs, verbose=0)
    return model


def cases(epochs: int) -> dict[str, tuple[keras.Model, np.ndarray, np.ndarray]]:
    """A trained model of each case, and its data."""
    n = len(load_dataset()[0])
    batch = 64  # of case 5
    found = {}

    def add(name: str, *arguments: object, wild: float = 0.0) -> None:
        keras.utils.set_random_seed(0)
        y, x, _ = load_dataset(wild=wild)
        layers, *options = arguments
        found[name] = fit(layers, x, y, epochs, *options), x, y

    dense = keras.layers.Dense
    one = tfpl.DistributionLambda(lambda t: tfd.Normal(loc=t, scale=1))
    add("1. Normal(line, 1)", [dense(1), one])
    add("2. Normal(line, line)", [dense(1 + 1), learned_scatter(0.05)])
    one = tfpl.DistributionLambda(lambda t: tfd.Normal(loc=t, scale=1))
    add("3. uncertain weights", [uncertain(1, n), one])
    add("4. both", [uncertain(1 + 1, n), learned_scatter(0.01)])
    add(
        "5. Gaussian process",
        gaussian_process(),
        lambda y, rv_y: rv_y.variational_loss(
            y, kl_weight=np.array(batch, "float32") / n
        ),
        batch,
    )
    wild = {"wild": 0.1}
    add("2, wild targets", [dense(1 + 1), learned_scatter(0.05)], **wild)
    add(
        "2, wild, StudentT",
        [dense(1 + 1), learned_scatter(0.05, student_t)],
        **wild,
    )
    return found


def draws(model: keras.Model, x: np.ndarray, n: int) -> np.ndarray:
    """Draws of y at x, `[n, len(x)]`: of the weights too, where uncertain."""
    return np.stack(
        [np.asarray(ops.convert_to_tensor(model(x)))[:, 0] for _ in range(n)]
    )


def save_picture(found: dict[str, tuple], path: Path) -> None:
    """The cases, with ten draws of the mean each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    _, _, x_tst = load_dataset()
    figure, axes = plt.subplots(1, 5, figsize=(20, 3), sharey=True)
    for ax, (name, (model, x, y)) in zip(axes, found.items(), strict=False):
        ax.scatter(x, y, s=4, color="tab:blue", label="observed")
        for _ in range(10 if name[0] in "34" else 1):
            mean = np.asarray(model(x_tst).mean())
            ax.plot(x_tst, mean, "r", linewidth=1, alpha=0.6)
        sample = draws(model, x_tst, 200)
        low, high = np.quantile(sample, [0.025, 0.975], axis=0)
        ax.fill_between(x_tst[:, 0], low, high, color="g", alpha=0.15)
        ax.set(title=name, ylim=(-10, 20), xlim=X_RANGE)
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, help="a folder for a picture")
    options = parser.parse_args()
    found = cases(options.epochs)
    at = np.linspace(*X_RANGE, 5, dtype="float32")[:, None]
    print(f"{'':22} mean +- stddev at x = -20 ... 60")
    for name, (model, _, _) in found.items():
        sample = draws(model, at, options.draws)
        line = "  ".join(
            f"{m:.1f} +- {s:.1f}"
            for m, s in zip(sample.mean(0), sample.std(0), strict=True)
        )
        print(f"{name:22} {line}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        save_picture(found, options.out / "layers_regression.png")


if __name__ == "__main__":
    main()
