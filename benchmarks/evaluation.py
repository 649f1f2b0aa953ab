"""`marginal_log_likelihood`: images x samples per second, and peak memory.

Each number of samples runs in a separate process, since a process' peak never
falls. The MLP of the training benchmark, 784-400-20.

    python benchmarks/evaluation.py
"""

import json
import time

import keras
import numpy as np
import rivals
from measure import arguments, in_a_process, peak_megabytes, report
from networks import NETWORKS


def measure(images: int, samples: int) -> dict[str, float]:
    """Speed of one call, compiled beforehand, and the peak of the process."""
    network = NETWORKS["mlp"]
    x = np.random.default_rng(0).random((images, *network.shape)) > 0.8
    x = x.astype("float32")
    vae = rivals.our_vae(network)
    vae.marginal_log_likelihood(x[:1], samples, seed=0)
    start = time.perf_counter()
    vae.marginal_log_likelihood(x, samples, seed=0)
    seconds = time.perf_counter() - start
    return {
        "samples": samples,
        "per_second": images * samples / seconds,
        "peak_megabytes": peak_megabytes(),
    }


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__.splitlines()[0], rounds=1)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument(
        "--samples", type=int, nargs="+", default=[10, 100, 1000, 5000]
    )
    parser.add_argument("--point", type=int, help="one number, JSON out")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(options.images, options.point)))
        return
    backend = keras.backend.backend()
    found = [
        in_a_process(__file__, "--images", options.images, "--point", samples)
        for samples in options.samples
    ]
    print(f"\n{options.images} images, Keras on {backend}\n")
    report(
        options.out,
        f"evaluation-{backend}",
        found,
        {
            "samples": ("samples", ","),
            "images x samples / s": ("per_second", ",.0f"),
            "peak memory, MB": ("peak_megabytes", ",.0f"),
        },
    )


if __name__ == "__main__":
    main()
