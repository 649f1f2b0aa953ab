"""Finds malignant tumours in a table that is trained on with them in it.

scikit-learn's breast cancer table: the 357 benign tumours and 40 malignant
ones, none of them marked. A VAE of each head learns the whole table and ranks
its rows by minus log p(x). Prints how well each ranking finds the malignant
rows (ROC-AUC: 0.5 for a guess, 1 for all of them first), over three draws of
the 40, and writes out/anomalies.png: the strangest rows, and what is strange
about each.

    python examples/anomalies.py
    KERAS_BACKEND=jax python examples/anomalies.py
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

from tfp_vae import VAE, evaluation
from tfp_vae.layers import (
    DistributionLayer,
    Head,
    IndependentHuber,
    IndependentNormal,
    IndependentStudentT,
    MultivariateNormalDiag,
)
from tfp_vae.plotting import save_anomalies

LATENT = 4
# Each element of each row has a scale of its own, at least a twentieth of its
# column's: what is hard to tell of a benign tumour is not held against it.
SCALE = {"scale": "learned", "min_scale": 0.05}
HEADS = {
    "Normal": lambda d: IndependentNormal(d, **SCALE),
    "Huber": lambda d: IndependentHuber(d, delta="shared", **SCALE),
    "Student-t": lambda d: IndependentStudentT(d, df="shared", **SCALE),
}


def model(head: DistributionLayer, seed: int) -> VAE:
    """One hidden layer a side."""
    (d,) = head.event_shape
    encoder = keras.Sequential(
        [
            keras.Input((d,)),
            keras.layers.Dense(64, "tanh"),
            Head(MultivariateNormalDiag(LATENT)),
        ]
    )
    decoder = keras.Sequential(
        [keras.Input((LATENT,)), keras.layers.Dense(64, "tanh"), Head(head)]
    )
    vae = VAE(encoder, decoder, seed=seed)
    vae.compile(keras.optimizers.Adam(2e-3))
    return vae


def main() -> None:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    table = load_breast_cancer()
    benign, malignant = (table.data[table.target == k] for k in (1, 0))
    areas: dict[str, list[float]] = {name: [] for name in HEADS}
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        found = np.random.default_rng(seed).permutation(malignant)[:40]
        rows = np.concatenate([benign, found])
        strange = np.arange(len(rows)) >= len(benign)
        # Of all rows, strange ones included: nobody told which they are.
        x = ((rows - rows.mean(0)) / rows.std(0)).astype("float32")
        for name, head in HEADS.items():
            vae = model(head(x.shape[1]), seed)
            vae.fit(x, batch_size=64, epochs=options.epochs, verbose=0)
            scores = evaluation.anomaly_score(vae, x, seed=0)
            areas[name].append(roc_auc_score(strange, scores))
    print(f"\nROC-AUC of minus log p(x), {options.seeds} draws")
    for name, values in areas.items():
        print(f"{name:12}{np.mean(values):6.3f} +- {np.std(values):.3f}")
    elements = evaluation.anomaly_score(vae, x, seed=0, per_element=True)
    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / "anomalies.png"
    save_anomalies(picture, rows, elements, scores, names=table.feature_names)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
