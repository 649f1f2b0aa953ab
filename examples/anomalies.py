"""Finds malignant tumours in a table that also served to train the model.

scikit-learn's breast cancer table: the 357 benign tumours and 40 malignant
ones, none of them marked. A VAE of each head learns the whole table and ranks
its rows by minus log p(x). The script prints how well each ranking finds the
malignant rows (ROC-AUC: 0.5 for a guess, 1 for all of them first), averaged
over draws of the 40, and writes out/anomalies.png: the strangest rows, and what
is strange about each.

    python examples/anomalies.py
    KERAS_BACKEND=jax python examples/anomalies.py
"""

import argparse
import itertools
import warnings
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
HEADS = {
    "Normal": lambda d, **scale: IndependentNormal(d, **scale),
    "Huber": lambda d, **scale: IndependentHuber(d, delta="shared", **scale),
    "Student-t": lambda d, **scale: IndependentStudentT(
        d, df="shared", **scale
    ),
}
SCALES = {
    "shared": {"scale": "shared"},
    # Each cell has its own scale, at least a twentieth of that of the column:
    # so a value that is hard to predict does not count as strange.
    "learned": {"scale": "learned", "min_scale": 0.05},
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
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    table = load_breast_cancer()
    benign, malignant = (table.data[table.target == k] for k in (1, 0))
    areas: dict[tuple[str, str], list[float]] = {}
    # The posterior does not cover strange rows well.
    warnings.filterwarnings("ignore", "An estimate of log p")
    for seed in range(options.seeds):
        keras.utils.set_random_seed(seed)
        found = np.random.default_rng(seed).permutation(malignant)[:40]
        rows = np.concatenate([benign, found])
        strange = np.arange(len(rows)) >= len(benign)
        # Over all rows, including strange ones: they are not marked.
        x = ((rows - rows.mean(0)) / rows.std(0)).astype("float32")
        for scale, name in itertools.product(SCALES, HEADS):
            vae = model(HEADS[name](x.shape[1], **SCALES[scale]), seed)
            vae.fit(x, batch_size=64, epochs=options.epochs, verbose=0)
            scores = evaluation.anomaly_score(vae, x, seed=0)
            areas.setdefault((name, scale), []).append(
                roc_auc_score(strange, scores)
            )
    print(f"\nROC-AUC of minus log p(x), mean of {options.seeds} draws")
    for (name, scale), values in areas.items():
        print(f"{name:12}{scale:8}{np.mean(values):7.3f}")
    elements = evaluation.anomaly_score(vae, x, seed=0, per_element=True)
    options.out.mkdir(parents=True, exist_ok=True)
    picture = options.out / "anomalies.png"
    save_anomalies(picture, rows, elements, scores, names=table.feature_names)
    print(f"Picture: {picture}")


if __name__ == "__main__":
    main()
