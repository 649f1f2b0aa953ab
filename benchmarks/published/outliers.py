"""Training images with outlier pixels, likelihood of clean ones.

On MNIST with 5, 10 and 20 per cent of all training pixels set to five times
white, one VAE for each likelihood, all with a shared scale; log p(x) of clean
test images by importance sampling, in nats, with 95 per cent confidence
intervals, and differences paired by image. Two layers of 200 tanh, latent 16,
Adam 1e-3. No figure is published for this: the question is which likelihood to
take.

    python benchmarks/published/outliers.py --data mnist.npz
"""

from typing import Any

import keras
import numpy as np
from runs import arguments, mlp, mnist, table, train

from tfp_vae import VAE
from tfp_vae.layers import (
    IndependentBarron,
    IndependentHuber,
    IndependentLayer,
    IndependentNormal,
    IndependentStudentT,
)

HEADS: dict[str, tuple[type[IndependentLayer], dict[str, Any]]] = {
    "Normal": (IndependentNormal, {}),
    "Huber": (IndependentHuber, {"delta": "shared"}),
    "StudentT": (IndependentStudentT, {"df": "shared"}),
    "Barron": (IndependentBarron, {"alpha": "shared"}),
}


def interval(values: np.ndarray) -> str:
    """The mean, and half the width of its 95 per cent interval."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.1f} +- {half:.1f}"


def main() -> None:
    """Runs the table."""
    parser = arguments(__doc__.splitlines()[0], epochs=10)
    parser.add_argument("--share", type=float, action="append")
    parser.add_argument("--head", choices=list(HEADS), action="append")
    parser.add_argument("--num-samples", type=int, default=100)
    options = parser.parse_args()
    clean, validation, test = mnist(options)
    rows = []
    for share in options.share or [0.05, 0.1, 0.2]:
        rng = np.random.default_rng(options.seed)
        x, held_out = (
            np.where(rng.random(v.shape) < share, np.float32(5.0), v)
            for v in (clean, validation)
        )
        found = {}
        for name in options.head or list(HEADS):
            cls, modes = HEADS[name]

            def make(
                cls: type[IndependentLayer] = cls,
                modes: dict[str, Any] = modes,
            ) -> VAE:
                head = cls(784, scale="shared", **modes)
                width = cls.params_size(784, scale="shared", **modes)
                vae = VAE(
                    *mlp((200, 200), "tanh", 16, head, width),
                    seed=options.seed,
                )
                vae.compile(keras.optimizers.Adam(1e-3))
                return vae

            file = f"outliers_{share}_{name}"
            vae, state = train(file, make, x, held_out, options)
            found[name] = vae.marginal_log_likelihood(
                test, options.num_samples, seed=0
            ).log_likelihood
            gain = found[name] - next(iter(found.values()))
            rows.append(
                f"{share:<6.0%}{name:26}{interval(found[name]):>20}"
                f"{'':12}{state['epochs']:>8}{state['seconds'] / 60:>8.1f}  "
                f"paired gain {interval(gain)}"
            )
            print(rows[-1], flush=True)
    table("log p(x) of clean images, nats", rows, options)


if __name__ == "__main__":
    main()
