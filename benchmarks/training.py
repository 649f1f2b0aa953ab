"""Training speed: `VAE.fit` compared with its alternatives.

Same network, loss, optimizer, data and batch size; the rivals alternate in one
run, and the result is the ratio of the medians (above 1: `VAE.fit` is faster).
The products of a step alone are the limit that no rival can beat on this
machine.

    python benchmarks/training.py
    KERAS_BACKEND=jax python benchmarks/training.py --network mlp
"""

import functools

import keras
import numpy as np
import rivals
from measure import arguments, in_turns, table, write
from networks import NETWORKS, Network

BATCH = 128
# Transposed convolutions are slow in JAX on a CPU: fewer examples.
FEW = 1_280

RIVALS = {
    "VAE.fit": rivals.ours,
    "Keras 3 by hand": rivals.by_hand,
    "Keras 3 by hand, 32 steps at once": functools.partial(
        rivals.by_hand, several=32
    ),
    "tf.function loop": rivals.tf_loop,
    "tf.function loop, XLA": functools.partial(rivals.tf_loop, xla=True),
    "tf_keras with tfp.layers": rivals.tfp_layers,
    "tf_keras with tfp.layers, XLA": functools.partial(
        rivals.tfp_layers, xla=True
    ),
    "JAX by hand, lax.scan": rivals.jax_scan,
    "tfp_vae.Sequential, no noise": rivals.our_autoencoder,
    "keras.Sequential, no noise": rivals.keras_autoencoder,
    "products alone, TensorFlow": rivals.tf_products,
    "products alone, JAX": rivals.jax_products,
}


def runs_on_jax(name: str) -> bool:
    """Whether a rival's step is compiled by JAX."""
    if name.startswith(("VAE", "Keras", "tfp_vae", "keras.")):
        return keras.backend.backend() == "jax"
    return "JAX" in name


def measure(
    network: Network, names: list[str], examples: int, epochs: int, rounds: int
) -> dict[str, float]:
    """Examples per second for each rival that can run here."""
    x = np.random.default_rng(0).random((examples, *network.shape)) > 0.8
    x = x.astype("float32")
    few = len(network.shape) > 1
    counts, functions = {}, {}
    for name in names:
        n = min(examples, FEW) if few and runs_on_jax(name) else examples
        try:
            train = RIVALS[name](network, x[:n], BATCH)
        except ImportError as error:
            print(f"Skipped: {name}, {error}.")
            continue
        train(epochs)  # compiles, as a run of that length is compiled
        counts[name] = n * epochs
        functions[name] = functools.partial(train, epochs)
    seconds = in_turns(functions, rounds)
    return {name: counts[name] / found for name, found in seconds.items()}


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__.splitlines()[0], rounds=7)
    parser.add_argument("--network", choices=list(NETWORKS), action="append")
    parser.add_argument("--examples", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--rival", choices=list(RIVALS), action="append", help="by default all"
    )
    options = parser.parse_args()
    ours = next(iter(RIVALS))
    names = [ours, *options.rival] if options.rival else list(RIVALS)
    backend = keras.backend.backend()
    found = {}
    for name in options.network or NETWORKS:
        network = NETWORKS[name]
        speeds = measure(
            network,
            names,
            options.examples or network.examples,
            options.epochs,
            options.rounds,
        )
        found[name] = speeds
        print(f"\n{name}, Keras on {backend}, batch {BATCH}\n")
        table(
            ["rival", "examples/s", "VAE.fit / rival"],
            [
                (rival, f"{speed:,.0f}", f"{speeds[ours] / speed:.2f}")
                for rival, speed in speeds.items()
            ],
        )
    write(options.out, f"training-{backend}", found)


if __name__ == "__main__":
    main()
