"""The cost of a training step as one number grows and the others stay.

Time and peak memory, each point in a separate process, as a function of batch
size, samples of IWAE, latent size and the number of examples. The MLP of the
training
benchmark: 784-400-20, batch 128.

    python benchmarks/cost_growth.py
"""

import json
import statistics
import time

import keras
import numpy as np
import rivals
from measure import arguments, in_a_process, peak_megabytes, report
from networks import NETWORKS

from tfp_vae.objectives import IWAE

USUAL = {"batch": 128, "iwae_samples": 1, "latent": 20, "examples": 10_000}
GROWTH = {
    "batch": [32, 128, 512, 2048],
    "iwae_samples": [1, 4, 16, 64],
    "latent": [2, 20, 200],
    "examples": [10_000, 20_000, 60_000, 120_000],
}


def measure(
    batch: int, iwae_samples: int, latent: int, examples: int, rounds: int
) -> dict[str, float]:
    """Milliseconds per step, the median of epochs, and the process' peak."""
    network = NETWORKS["mlp"]._replace(latent=latent)
    x = np.random.default_rng(0).random((examples, 784), "float32") > 0.8
    x = x.astype("float32")
    objective = IWAE(iwae_samples) if iwae_samples > 1 else None
    vae = rivals.our_vae(network, objective)
    epochs = []
    for _ in range(1 + rounds):
        start = time.perf_counter()
        vae.fit(x, batch_size=batch, verbose=0)
        epochs.append(time.perf_counter() - start)
    steps = -(-examples // batch)
    return {
        "ms_a_step": 1e3 * statistics.median(epochs[1:]) / steps,
        "peak_megabytes": peak_megabytes(),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__.splitlines()[0], rounds=3)
    parser.add_argument("--grows", choices=list(GROWTH), action="append")
    parser.add_argument("--most", type=int, default=2**31, help="of any number")
    parser.add_argument("--point", type=json.loads, help="one point, JSON out")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(**options.point, rounds=options.rounds)))
        return
    backend = keras.backend.backend()
    found = []
    for name in options.grows or GROWTH:
        for value in GROWTH[name]:
            if value > options.most:
                continue
            usual = {k: min(v, options.most) for k, v in USUAL.items()}
            point = json.dumps({**usual, name: value})
            cost = in_a_process(
                __file__, "--rounds", options.rounds, "--point", point
            )
            found.append({"grows": name, "value": value, **cost})
    print(f"\nKeras on {backend}\n")
    report(
        options.out,
        f"cost_growth-{backend}",
        found,
        {
            "grows": ("grows", ""),
            "to": ("value", ","),
            "ms a step": ("ms_a_step", ".2f"),
            "peak memory, MB": ("peak_megabytes", ",.0f"),
        },
    )


if __name__ == "__main__":
    main()
