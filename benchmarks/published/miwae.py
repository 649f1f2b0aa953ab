"""Imputation where half of a table is missing at random: MIWAE.

The demonstration of its authors (Mattei and Frellsen, 2019): scikit-learn's
breast cancer table, 569 rows of 30 columns, standardised, half of its cells
removed at random; one hidden layer of 128 tanh units on each side, latent 10,
K = 20, Adam 1e-3, batch 64, 2,002 epochs; single imputation by 10,000
importance samples. The figure is the mean squared error of the missing cells;
published are 0.2867 for a Student-t decoder and about 1 for the mean of each
column.

    python benchmarks/published/miwae.py
    python benchmarks/published/miwae.py --masks 5 --head Normal --head Huber

Each figure is written to `--out` at once; a second run continues from there.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer

from tfp_vae import VAE
from tfp_vae.layers import (
    DistributionLayer,
    Head,
    IndependentBarron,
    IndependentHuber,
    IndependentNormal,
    IndependentStudentT,
    MultivariateNormalDiag,
)
from tfp_vae.objectives import IWAE

UNITS, LATENT, SAMPLES, BATCH = 128, 10, 20, 64
# The authors' floor of the scale.
FLOOR = 1e-3
HEADS: dict[str, Callable[[int], DistributionLayer]] = {
    "StudentT": lambda d: IndependentStudentT(d, min_scale=FLOOR, df=3.0),
    "Normal": lambda d: IndependentNormal(d, min_scale=FLOOR),
    "Huber": lambda d: IndependentHuber(d, min_scale=FLOOR, delta="shared"),
    "Barron": lambda d: IndependentBarron(d, min_scale=FLOOR, alpha="shared"),
}


def make(head: DistributionLayer, width: int, seed: int) -> VAE:
    """A compiled model."""
    dense = keras.layers.Dense
    encoder = keras.Sequential(
        [
            keras.Input((width,)),
            dense(UNITS, "tanh"),
            Head(MultivariateNormalDiag(LATENT)),
        ]
    )
    decoder = keras.Sequential(
        [keras.Input((LATENT,)), dense(UNITS, "tanh"), Head(head)]
    )
    vae = VAE(
        encoder,
        decoder,
        objective=IWAE(SAMPLES),
        missing_values=np.nan,
        seed=seed,
    )
    vae.compile(keras.optimizers.Adam(1e-3))
    return vae


def main() -> None:
    """Runs the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--head", choices=list(HEADS), action="append")
    parser.add_argument("--masks", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2_002)
    parser.add_argument("--num-samples", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("out/published"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "miwae.json"
    found = json.loads(file.read_text()) if file.exists() else {}

    x = load_breast_cancer().data
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    for mask in range(options.masks):
        missing = np.random.default_rng(mask).random(x.shape) < 0.5
        incomplete = np.where(missing, np.nan, x)
        by_mean = np.nanmean(incomplete, axis=0)
        error = np.mean((x - by_mean)[missing] ** 2)
        print(f"mask {mask}: column means {error:.4f}", flush=True)
        for name in options.head or ["StudentT"]:
            key = f"{name}, mask {mask}, {options.epochs} epochs"
            if key not in found:
                keras.utils.set_random_seed(mask)
                vae = make(HEADS[name](x.shape[1]), x.shape[1], mask)
                start = time.perf_counter()
                vae.fit(
                    incomplete,
                    batch_size=BATCH,
                    epochs=options.epochs,
                    verbose=0,
                )
                minutes = (time.perf_counter() - start) / 60
                filled = vae.impute(incomplete, options.num_samples, seed=0)
                error = np.mean((x - filled)[missing].astype("float64") ** 2)
                found[key] = [float(error), minutes]
                file.write_text(json.dumps(found, indent=1))
            error, minutes = found[key]
            print(f"{key}: {error:.4f} ({minutes:.1f} min)", flush=True)
    print(f"\nmean squared error, {options.masks} mask(s), published 0.2867")
    for name in options.head or ["StudentT"]:
        errors = [v[0] for k, v in found.items() if k.startswith(f"{name},")]
        print(f"{name:10} {np.mean(errors):.4f} +- {np.std(errors):.4f}")


if __name__ == "__main__":
    main()
