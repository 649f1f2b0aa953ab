"""Likelihood kernels: log density and gradient, compared with Keras' losses.

Each reads the data and a parameter and writes a gradient, three arrays of
`[1024, 12288]`; the measure is these bytes divided by the time, compared with a
kernel that reads one array and writes one. On TensorFlow with XLA and without.

    python benchmarks/kernels.py
    KERAS_BACKEND=jax python benchmarks/kernels.py

On Linux, make malloc keep the heap for arrays this large; otherwise page faults
take the time:
`MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296`.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from measure import arguments, in_turns, table, write

from tfp_vae.distributions import Bernoulli, Huber
from tfp_vae.substrate import jit, tfd, tfp


def _density(distribution: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def total(parameter: Any, x: Any) -> Any:
        likelihood = tfd.Independent(distribution(parameter), 1)
        # One number per example stands for its KL. Without it XLA would merge
        # the sums over pixels and examples into one, which runs on one core.
        return ops.mean(x[:, 0] - likelihood.log_prob(x))

    return total


def _loss(loss: keras.losses.Loss) -> Callable[[Any, Any], Any]:
    return lambda parameter, x: loss(x, parameter)


# The likelihood of ours or TFP's, and the loss that is the same except for a
# constant and a factor.
KERNELS = {
    "Huber": (
        _density(lambda loc: Huber(loc, 1.0, 1.0)),
        _loss(keras.losses.Huber()),
    ),
    "Normal": (
        _density(lambda loc: tfd.Normal(loc, 1.0)),
        _loss(keras.losses.MeanSquaredError()),
    ),
    "Bernoulli": (
        _density(lambda logits: Bernoulli(logits=logits)),
        _loss(keras.losses.BinaryCrossentropy(from_logits=True)),
    ),
    "TFP's Bernoulli": (
        _density(lambda logits: tfd.Bernoulli(logits=logits)),
        _loss(keras.losses.BinaryCrossentropy(from_logits=True)),
    ),
}


def compilers() -> dict[str, Callable[[Callable], Callable]]:
    """The ways in which a function can be compiled, by name."""
    if keras.backend.backend() == "jax":
        return {"JAX": jit}
    return {
        "TensorFlow, XLA": functools.partial(jit, jit_compile=True),
        "TensorFlow": jit,
    }


def _waiting(function: Callable, *tensors: Any) -> Callable[[], Any]:
    """Calls a function and waits until its last result is there."""

    def call() -> Any:
        results = function(*tensors)
        last = results[-1] if isinstance(results, (list, tuple)) else results
        return ops.convert_to_numpy(last[-1, -1])

    return call


def main() -> None:
    """Runs the benchmark."""
    parser = arguments(__doc__.splitlines()[0], rounds=21)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--columns", type=int, default=12288)
    options = parser.parse_args()
    shape = options.rows, options.columns
    rng = np.random.default_rng(0)
    grey = ops.convert_to_tensor(rng.random(shape, "float32"))
    binary = ops.convert_to_tensor((rng.random(shape) > 0.5).astype("float32"))
    parameter = ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))
    array = 4 * shape[0] * shape[1] / 1e9

    found: dict[str, Any] = {}
    for compiler, compiled in compilers().items():
        functions = {"copy": _waiting(compiled(ops.negative), grey)}
        for name, pair in KERNELS.items():
            x = binary if "Bernoulli" in name else grey
            for kind, function in zip(("density", "loss"), pair, strict=True):

                def both(p: Any, x: Any, f: Callable = function) -> Any:
                    return tfp.math.value_and_gradient(lambda q: f(q, x), p)

                functions[f"{name} {kind}"] = _waiting(
                    compiled(both), parameter, x
                )
        for function in functions.values():
            function()  # compiles
        seconds = in_turns(functions, options.rounds)
        found[compiler] = seconds
        print(f"\n{compiler}, {list(shape)}")
        print(f"Copy: {2 * array / seconds['copy']:.1f} GB/s\n")
        table(
            ["likelihood", "ms", "GB/s", "Keras' loss, ms", "GB/s", "ratio"],
            [
                (
                    name,
                    f"{1e3 * density:.1f}",
                    f"{3 * array / density:.1f}",
                    f"{1e3 * loss:.1f}",
                    f"{3 * array / loss:.1f}",
                    f"{loss / density:.2f}",
                )
                for name in KERNELS
                for density, loss in [
                    (seconds[f"{name} density"], seconds[f"{name} loss"])
                ]
            ],
        )
    write(options.out, f"kernels-{keras.backend.backend()}", found)


if __name__ == "__main__":
    main()
