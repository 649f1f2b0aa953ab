"""VAE and IWAE on MNIST binarised once by sampling.

The rows of pythae's table of reproductions: one hidden layer of 400 ReLU units
on each side, published 89.78 nats (200 importance samples); and the importance
weighted autoencoder with 50 samples, published 86.82 (with two hidden layers of
200 tanh and a latent of 50 there; with the network of the first row here).

    python benchmarks/published/static_mnist.py --data mnist.npz
"""

import keras
from runs import arguments, binarized, mlp, mnist, nll, row, table, train

from tfp_vae import ELBO, VAE
from tfp_vae.layers import IndependentBernoulli
from tfp_vae.objectives import IWAE, Objective

LATENT = 40
BATCH = 100


def main() -> None:
    """Runs both rows."""
    parser = arguments(__doc__.splitlines()[0], epochs=100)
    parser.add_argument("--num-samples", type=int, default=200)
    parser.add_argument("--row", choices=["VAE", "IWAE"], action="append")
    options = parser.parse_args()
    x, validation, test = (
        binarized(v, options.seed + i) for i, v in enumerate(mnist(options))
    )
    steps = options.epochs * -(-len(x) // BATCH)
    objectives: dict[str, tuple[Objective, str]] = {
        "VAE": (ELBO(), "89.78"),
        "IWAE": (IWAE(50, gradient="dreg"), "86.82"),
    }
    rows = []
    for name in options.row or list(objectives):
        objective, published = objectives[name]

        def make(objective: Objective = objective) -> VAE:
            head = IndependentBernoulli(784)
            vae = VAE(
                *mlp((400,), "relu", LATENT, head, 784),
                objective=objective,
                seed=options.seed,
            )
            rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
            vae.compile(keras.optimizers.Adam(rate))
            return vae

        vae, state = train(
            f"static_{name}", make, x, validation, options, BATCH
        )
        found = vae.marginal_log_likelihood(
            test, options.num_samples, seed=0, verbose=True
        )
        rows.append(row(name, state, nll(found)[0], published, nll(found)[1]))
    table(
        f"-log p(x), nats, {options.num_samples} importance samples",
        rows,
        options,
    )


if __name__ == "__main__":
    main()
