"""The scale of a Gaussian decoder on grey MNIST, and two robust rows.

Rybkin, Daniilidis, Levine (ICML 2021), table 1, upper bounds on -log p(x) in
nats for pixels in [0, 1]: a Gaussian of unit variance < 740.5, one of shared
scale (the sigma-VAE) < -896.1. A Huber and a Student-t of shared scale are
added. Two convolutions on each side, latent 20, Adam 1e-3, batch 100.

    python benchmarks/published/sigma_vae.py --data mnist.npz
"""

from typing import Any

import keras
import numpy as np
from runs import arguments, mnist, row, table, train

from tfp_vae import VAE
from tfp_vae.layers import (
    DistributionLayer,
    IndependentHuber,
    IndependentNormal,
    IndependentStudentT,
    MultivariateNormalDiag,
)

LATENT = 20
SHAPE = (28, 28, 1)
ROWS: dict[str, tuple[type[DistributionLayer], dict[str, Any], str]] = {
    "Normal, scale 1": (IndependentNormal, {"scale": 1.0}, "740.5"),
    "Normal, shared": (IndependentNormal, {"scale": "shared"}, "-896.1"),
    "Normal, optimal": (IndependentNormal, {"scale": "optimal"}, "-896.1"),
    "Huber, shared": (
        IndependentHuber,
        {"scale": "shared", "delta": "shared"},
        "",
    ),
    "StudentT, shared": (
        IndependentStudentT,
        {"scale": "shared", "df": "shared"},
        "",
    ),
}


def networks(head: DistributionLayer) -> tuple[keras.Model, keras.Model]:
    """Two convolutions on each side."""
    layers = keras.layers
    strided = {"strides": 2, "padding": "same", "activation": "relu"}
    encoder = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(32, 4, **strided),
            layers.Conv2D(64, 4, **strided),
            layers.Flatten(),
            layers.Dense(256, "relu"),
            layers.Dense(MultivariateNormalDiag.params_size(LATENT)),
            MultivariateNormalDiag(LATENT),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((LATENT,)),
            layers.Dense(256, "relu"),
            layers.Dense(7 * 7 * 64, "relu"),
            layers.Reshape((7, 7, 64)),
            layers.Conv2DTranspose(32, 4, **strided),
            layers.Conv2DTranspose(1, 4, strides=2, padding="same"),
            head,
        ]
    )
    return encoder, decoder


def main() -> None:
    """Runs the rows."""
    parser = arguments(__doc__.splitlines()[0], epochs=10)
    parser.add_argument("--row", choices=list(ROWS), action="append")
    options = parser.parse_args()
    x, validation, test = (v.reshape(-1, *SHAPE) for v in mnist(options))
    rows = []
    for name in options.row or list(ROWS):
        cls, modes, published = ROWS[name]

        def make(
            cls: type[DistributionLayer] = cls,
            modes: dict[str, Any] = modes,
        ) -> VAE:
            vae = VAE(*networks(cls(SHAPE, **modes)), seed=options.seed)
            vae.compile(keras.optimizers.Adam(1e-3))
            return vae

        file = "sigma_" + name.replace(", ", "_").replace(" ", "_")
        vae, state = train(file, make, x, validation, options)
        bounds = [
            vae.evaluate(test, batch_size=500, verbose=0, seed=seed)[0]
            for seed in range(5)
        ]
        figure = f"< {np.mean(bounds):.1f}"
        remark = f"(over 5 draws +- {np.std(bounds):.1f})"
        rows.append(row(name, state, figure, published, remark))
    table("-ELBO of grey MNIST, nats", rows, options)


if __name__ == "__main__":
    main()
