"""Anomaly detection on tables: ADBench's protocol.

`unsup`: train on a bootstrap of the whole table, anomalies included, and score
the whole table; `semi`: train on half of the normal rows, and score the rest.
At most 10,000 rows are used, standardised by the training rows; the score is
-log p(x) by 100 importance samples, the figure the area under the ROC curve in
per cent. All tables have one recipe, set after a first look at `SEEN`. The
output also has the published mean over five seeds of VAE and PCA, and of the
best of 26 methods on each table.

    python benchmarks/published/anomalies.py --data adbench --seed 0

Each figure is written to `--out` at once; a second run continues from there.
"""

import argparse
import csv
import itertools
import json
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from tfp_vae import VAE, evaluation
from tfp_vae.layers import (
    Head,
    IndependentBarron,
    IndependentHuber,
    IndependentLayer,
    IndependentNormal,
    IndependentStudentT,
    MultivariateNormalDiag,
)

SETTINGS = ("unsup", "semi")
PUBLISHED = {"VAE": "VAE", "PCA": "PCA", "best": "best"}
# The key of a figure.
KEY = ("setting", "table", "seed", "head", "recipe")
ROWS = 10_000
# The recipe, and the tables that were used to set it.
SEEN = ("annthyroid", "cardio", "waveform")
RECIPE = {
    "hidden": 64,  # tanh units, one layer on each side
    "latent": 8,  # or half of the columns, if these are fewer
    "batch": 128,
    "steps": 1_500,
    "rate": 1e-3,  # of Adam
    "floor": 0.05,  # of the scale, in standard deviations of a column
}
FAMILIES: dict[str, tuple[type[IndependentLayer], dict[str, Any]]] = {
    "Normal": (IndependentNormal, {}),
    "Huber": (IndependentHuber, {"delta": "shared"}),
    "StudentT": (IndependentStudentT, {"df": "shared"}),
    "Barron": (IndependentBarron, {"alpha": "shared"}),
}
HEADS = [f"{f}, {s}" for s in ("shared", "learned") for f in FAMILIES]


def make(head: str, width: int, recipe: dict[str, Any], seed: int) -> VAE:
    """A compiled model."""
    keras.utils.set_random_seed(seed)
    family, scale = head.split(", ")
    layer, options = FAMILIES[family]
    latent = max(1, min(recipe["latent"], width // 2))
    dense = keras.layers.Dense
    encoder = keras.Sequential(
        [
            keras.Input((width,)),
            dense(recipe["hidden"], "tanh"),
            Head(MultivariateNormalDiag(latent)),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((latent,)),
            dense(recipe["hidden"], "tanh"),
            Head(
                layer(width, scale=scale, min_scale=recipe["floor"], **options)
            ),
        ]
    )
    vae = VAE(encoder, decoder, seed=seed)
    vae.compile(keras.optimizers.Adam(recipe["rate"]))
    return vae


class Fresh:
    """One model for all fits of a head to tables of one width.

    For a small table compiling takes longer than training, so each fit puts new
    weights into the model that is compiled already.
    """

    def __init__(self, head: str, width: int, recipe: dict[str, Any]) -> None:
        self.arguments = (head, width, recipe)
        self.batch, self.steps = recipe["batch"], recipe["steps"]
        self.vae = make(*self.arguments, seed=0)
        self.optimizer: list[np.ndarray] | None = None

    def fit(self, x: np.ndarray, seed: int) -> VAE:
        """Trains new weights, on a fixed number of batches of x."""
        new = make(*self.arguments, seed=seed)
        new(x[: self.batch])  # builds it
        self.vae(x[: self.batch])
        for old, value in zip(self.vae.variables, new.variables, strict=True):
            old.assign(value)
        self._reset(self.vae.optimizer)
        # Drawn beforehand: one shape for any number of rows.
        rng = np.random.default_rng(seed)
        size = self.steps * self.batch
        epochs = -(-size // len(x))
        rows = np.concatenate([rng.permutation(len(x)) for _ in range(epochs)])
        self.vae.fit(
            x[rows[:size]], batch_size=self.batch, shuffle=False, verbose=0
        )
        return self.vae

    def _reset(self, optimizer: keras.optimizers.Optimizer) -> None:
        if self.optimizer is None:
            optimizer.build(self.vae.trainable_variables)
            self.optimizer = [
                keras.ops.convert_to_numpy(v) for v in optimizer.variables
            ]
        for old, value in zip(optimizer.variables, self.optimizer, strict=True):
            old.assign(value)


def split(
    x: np.ndarray, y: np.ndarray, setting: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on, rows to score, and which of these are anomalies."""
    rng = np.random.default_rng(seed)
    if len(x) > ROWS:
        kept = rng.choice(len(x), ROWS, replace=False)
        x, y = x[kept], y[kept]
    if setting == "unsup":
        train, scored = rng.integers(len(x), size=len(x)), np.arange(len(x))
    else:
        normal = rng.permutation(np.flatnonzero(y == 0))
        train = normal[: len(normal) // 2]
        scored = np.setdiff1d(np.arange(len(x)), train)
    mean, spread = x[train].mean(0), x[train].std(0)
    x = ((x - mean) / np.where(spread > 0, spread, 1.0)).astype("float32")
    return x[train], x[scored], y[scored]


Table = tuple[str, np.ndarray, np.ndarray]


def tables(folder: Path, names: list[str] | None) -> list[list[Table]]:
    """Name, rows and labels of each table, grouped by width."""
    found: dict[int, list[Table]] = {}
    for file in sorted(folder.glob("*.npz"), key=lambda f: f.stat().st_size):
        name = file.stem.split("_", 1)[1].lower()
        if names is None or name in names:
            with np.load(file) as data:
                x, y = data["X"].astype("float64"), data["y"].astype(int)
            found.setdefault(x.shape[1], []).append((name, x, y))
    return list(found.values())


def summary(results: list[dict[str, Any]], published: Path) -> None:
    """Prints one table for each setting."""
    with published.open() as file:
        known = {(r["setting"], r["dataset"]): r for r in csv.DictReader(file)}
    for setting in SETTINGS:
        rows: dict[str, list[float]] = {}
        for name in dict.fromkeys(r["table"] for r in results):
            line = []
            for head in HEADS:
                found = [
                    r["auroc"]
                    for r in results
                    if (r["setting"], r["table"], r["head"])
                    == (setting, name, head)
                ]
                line.append(np.mean(found) if found else np.nan)
            if np.isnan(line).all():
                continue
            figures = known.get((setting, name), {})
            line += [float(figures.get(k, "nan")) for k in PUBLISHED]
            rows[name] = line
        if not rows:
            continue
        for title, names in {
            "all": list(rows),
            "others": [n for n in rows if n not in SEEN],
        }.items():
            # Over the tables that all heads have.
            whole = [rows[n] for n in names if not np.isnan(rows[n]).any()]
            if whole:
                rows[f"{title} ({len(whole)})"] = list(np.mean(whole, axis=0))
        seeds = len({r["seed"] for r in results if r["setting"] == setting})
        print(f"\n{setting}: AUROC in per cent, {seeds} seed(s); * seen before")
        heads = [head.replace(", ", "\n").split("\n") for head in HEADS]
        for part in range(2):
            ends = [h[part] for h in heads]
            ends += list(PUBLISHED.values()) if part else [""] * len(PUBLISHED)
            print(f"{'':16}" + "".join(f"{e:>10}" for e in ends))
        for name, line in rows.items():
            mark = "*" if name in SEEN else ""
            cells = "".join(f"{v:10.1f}" for v in line).replace("nan", "  -")
            print(f"{name + mark:16}{cells}")


def main() -> None:
    """Runs the missing fits, and prints all results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder of ADBench's .npz"
    )
    parser.add_argument("--setting", choices=SETTINGS, action="append")
    parser.add_argument("--seed", type=int, action="append", help="0 to 4")
    parser.add_argument("--table", action="append", help="such as cardio")
    parser.add_argument("--head", choices=HEADS, action="append")
    for name, value in RECIPE.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/published/anomalies.jsonl"),
        help="where figures are kept",
    )
    options = parser.parse_args()
    # q(z|x) does not cover strange rows.
    warnings.filterwarnings("ignore", "An estimate of log p")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.touch()
    results = [
        json.loads(line) for line in options.out.read_text().splitlines()
    ]
    done = {tuple(r[k] for k in KEY) for r in results}
    recipe = {name: getattr(options, name) for name in RECIPE}
    written = "-".join(map(str, recipe.values()))
    for group in tables(options.data, options.table):
        for head in options.head or HEADS:
            model = Fresh(head, group[0][1].shape[1], recipe)
            for (name, x, y), seed, setting in itertools.product(
                group, options.seed or range(5), options.setting or SETTINGS
            ):
                key = (setting, name, seed, head, written)
                if key in done:
                    continue
                start = time.perf_counter()
                train, scored, strange = split(x, y, setting, seed)
                vae = model.fit(train, seed)
                fitted = time.perf_counter()
                scores = evaluation.anomaly_score(
                    vae, scored, num_samples=100, seed=seed
                )
                found = {
                    **dict(zip(KEY, key, strict=True)),
                    "auroc": 100 * roc_auc_score(strange, scores),
                    "fit_s": round(fitted - start, 2),
                    "score_s": round(time.perf_counter() - fitted, 2),
                }
                with options.out.open("a") as file:
                    print(json.dumps(found), file=file)
                print(found, flush=True)
                results.append(found)
    summary(
        [r for r in results if r["recipe"] == written],
        options.data / "published_auroc.csv",
    )


if __name__ == "__main__":
    main()
