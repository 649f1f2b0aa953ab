"""Start-up: the import, that of Keras and TFP alone, and the first step.

Each measurement runs in a fresh process, alternating; medians. The first step
is a call of `fit` on one batch, tracing and compiling included.

    python benchmarks/startup.py
"""

import json
import statistics
import time

import keras
import numpy as np
from measure import arguments, in_a_process, table, write

_SUBSTRATE = {
    "tensorflow": "import tensorflow_probability as tfp",
    # With a newer JAX, TFP 0.25 alone lacks this name.
    "jax": (
        "import jax; from jax.interpreters import xla; "
        "xla.pytype_aval_mappings = jax.core.pytype_aval_mappings; "
        "from tensorflow_probability.substrates import jax as tfp"
    ),
}
# TFP is loaded when it is first used.
_ALONE = "import keras; {}; tfp.distributions, tfp.bijectors"
_TIMED = (
    "import time; start = time.perf_counter(); {}; "
    "print(time.perf_counter() - start)"
)
STEPS = {"ours": "VAE.fit", "by_hand": "Keras 3 by hand"}


def first_step(rival: str) -> float:
    """Seconds of the first call of `fit`, on one batch of the MLP."""
    import rivals
    from networks import NETWORKS

    x = np.zeros((128, 784), "float32")
    train = getattr(rivals, rival)(NETWORKS["mlp"], x, 128)
    start = time.perf_counter()
    train(1)
    return time.perf_counter() - start


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__.splitlines()[0], rounds=7)
    parser.add_argument("--point", choices=list(STEPS), help="JSON out")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(first_step(options.point)))
        return
    backend = keras.backend.backend()
    imports = {
        "import of Keras and TFP": _ALONE.format(_SUBSTRATE[backend]),
        "import tfp_vae": "import tfp_vae",
    }
    commands = {
        name: ["-c", _TIMED.format(code)] for name, code in imports.items()
    }
    for rival, name in STEPS.items():
        commands[f"first step, {name}"] = [__file__, "--point", rival]
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.rounds):
        for name, command in commands.items():
            seconds[name].append(in_a_process(*command))
    found = {name: statistics.median(s) for name, s in seconds.items()}
    print(f"\nKeras on {backend}\n")
    table(["", "seconds"], [(n, f"{s:.2f}") for n, s in found.items()])
    alone, ours = (found[name] for name in imports)
    print(f"\ntfp_vae adds {100 * (ours / alone - 1):.0f} % to the import")
    write(options.out, f"startup-{backend}", found)


if __name__ == "__main__":
    main()
