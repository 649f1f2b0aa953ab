"""The experiments of the IWAE paper, k = 1, 5 and 50.

Burda, Grosse, Salakhutdinov (ICLR 2016): two tanh layers of 200 on each side,
latent 50, MNIST binarised again in every epoch, Adam (epsilon 1e-4), batch 20,
rate 1e-3 * 10**(-i / 7) for 3**i epochs, i = 0..7 (3,280 epochs). Published, by
5,000 importance samples: 86.76, 85.54 and 84.78 nats. `--stages` says how many
of the eight stages are run: 5 are 121 epochs. `--layers 2` is the network of
two stochastic layers, of 100 and 50, with two tanh layers of 100 between them;
published 85.33, 83.89 and 82.90.

    python benchmarks/published/iwae_paper.py --data mnist.npz --stages 4
"""

import keras
import numpy as np
from runs import arguments, binarized, mlp, mnist, nll, row, table, train

from tfp_vae import VAE
from tfp_vae.layers import (
    Head,
    IndependentBernoulli,
    Joint,
    MultivariateNormalDiag,
)
from tfp_vae.objectives import IWAE
from tfp_vae.substrate import tfd

# By the number of stochastic layers, and k.
PUBLISHED = {
    1: {1: "86.76", 5: "85.54", 50: "84.78"},
    2: {1: "85.33", 5: "83.89", 50: "82.90"},
}


def network(
    size: int, head: keras.layers.Layer, of: int, name: str
) -> keras.Model:
    """Two tanh layers, from an input of some name."""
    inputs = hidden = keras.Input((of,), name=name)
    for _ in range(2):
        hidden = keras.layers.Dense(size, "tanh")(hidden)
    return keras.Model(inputs, Head(head)(hidden))


def two_layers() -> dict[str, keras.layers.Layer]:
    """Bottom-up posterior, top-down prior."""
    normal = MultivariateNormalDiag
    unit = tfd.MultivariateNormalDiag(np.zeros(50, "float32"))
    return {
        "encoder": Joint(
            {
                "z1": network(200, normal(100), 784, "x"),
                "z2": network(100, normal(50), 100, "z1"),
            }
        ),
        "decoder": network(200, IndependentBernoulli(784), 100, "z1"),
        "prior": Joint({"z2": unit, "z1": network(100, normal(100), 50, "z2")}),
    }


def one_layer() -> dict[str, keras.layers.Layer]:
    """The prior is the standard normal."""
    head = IndependentBernoulli(784)
    encoder, decoder = mlp((200, 200), "tanh", 50, head, 784)
    return {"encoder": encoder, "decoder": decoder}


class Binarized(keras.utils.PyDataset):
    """Batches whose pixels are drawn each time a batch is read."""

    def __init__(self, x: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__()
        self._x = x
        self._batch_size = batch_size
        self._rng = np.random.default_rng(seed)
        self._order = self._rng.permutation(len(x))

    def __len__(self) -> int:
        return -(-len(self._x) // self._batch_size)

    def __getitem__(self, index: int) -> np.ndarray:
        start = index * self._batch_size
        grey = self._x[self._order[start : start + self._batch_size]]
        drawn = self._rng.random(grey.shape, "float32") < grey
        return drawn.astype("float32")

    def on_epoch_end(self) -> None:
        self._order = self._rng.permutation(len(self._x))


def main() -> None:
    """Runs the rows asked for."""
    parser = arguments(__doc__.splitlines()[0], epochs=0)
    parser.add_argument("--k", type=int, action="append", help="1, 5 or 50")
    parser.add_argument("--layers", type=int, choices=[1, 2], default=1)
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--num-samples", type=int, default=5000)
    parser.set_defaults(epochs=None)
    options = parser.parse_args()
    if options.epochs is None:
        options.epochs = sum(3**i for i in range(options.stages))
    x, validation, test = mnist(options)
    validation, test = (
        binarized(v, options.seed + i) for i, v in enumerate((validation, test))
    )
    steps = -(-len(x) // options.batch_size)
    ends = np.cumsum([steps * 3**i for i in range(options.stages)])
    rates = [1e-3 * 10 ** (-i / 7) for i in range(options.stages)]
    rows = []
    published = PUBLISHED[options.layers]
    networks = {1: one_layer, 2: two_layers}[options.layers]
    for k in options.k or list(published):

        def make(k: int = k) -> VAE:
            vae = VAE(**networks(), objective=IWAE(k), seed=options.seed)
            rate = keras.optimizers.schedules.PiecewiseConstantDecay(
                [int(end) for end in ends[:-1]], rates
            )
            vae.compile(keras.optimizers.Adam(rate, epsilon=1e-4))
            return vae

        name = "iwae_{}" if options.layers == 1 else "iwae_two_{}"
        data = Binarized(x, options.batch_size, options.seed)
        vae, state = train(name.format(k), make, data, validation, options)
        found = vae.marginal_log_likelihood(
            test, options.num_samples, seed=0, verbose=True
        )
        figure, doubtful = nll(found)
        rows.append(row(f"k = {k}", state, figure, published[k], doubtful))
    table(
        f"-log p(x), nats, {options.num_samples} importance samples",
        rows,
        options,
    )


if __name__ == "__main__":
    main()
