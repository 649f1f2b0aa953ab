"""Shared by the published rows: data, a budget, resuming, and the table."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfp_vae import VAE
from tfp_vae.evaluation.importance import MarginalLogLikelihood
from tfp_vae.layers import MultivariateNormalDiag

# The last of MNIST's 60,000 training images are held out to choose an epoch.
VALIDATION = 5_000


def arguments(description: str, epochs: int) -> argparse.ArgumentParser:
    """The options of every row."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data", type=Path, help="a file like Keras' mnist.npz"
    )
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="of training, a model"
    )
    parser.add_argument("--limit", type=int, help="train on so many images")
    parser.add_argument("--test-limit", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/published"),
        help="where models are kept; a second run goes on from there",
    )
    return parser


def mnist(
    options: argparse.Namespace,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training, validation and test images in [0, 1], `[N, 784]`."""
    if options.data is None:
        (train, _), (test, _) = keras.datasets.mnist.load_data()
    else:
        with np.load(options.data) as data:
            train, test = data["x_train"], data["x_test"]
    train, test = (
        x.reshape(len(x), -1).astype("float32") / 255 for x in (train, test)
    )
    held_out = min(VALIDATION, len(train) // 6)
    return (
        train[:-held_out][: options.limit],
        train[-held_out:],
        test[: options.test_limit],
    )


def binarized(x: np.ndarray, seed: int) -> np.ndarray:
    """Pixels drawn once, each with its grey level as the probability."""
    rng = np.random.default_rng(seed)
    return (rng.random(x.shape, "float32") < x).astype("float32")


class Budget(keras.callbacks.Callback):
    """Keeps the model after every epoch, and stops when the time is up."""

    def __init__(self, path: Path, minutes: float) -> None:
        super().__init__()
        self.path = path
        self.state = {"epochs": 0, "seconds": 0.0, "best": float("inf")}
        if path.with_suffix(".json").exists():
            self.state = json.loads(path.with_suffix(".json").read_text())
        self.minutes = minutes

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.state["epochs"] = epoch + 1
        self.state["seconds"] += time.perf_counter() - self._start
        if logs["val_loss"] < self.state["best"]:
            self.state["best"] = logs["val_loss"]
            self.model.save_weights(self.best)
        # Both files, or neither if the run is killed in between.
        new = self.path.with_suffix(".new.keras")
        self.model.save(new)
        new_state = self.path.with_suffix(".new.json")
        new_state.write_text(json.dumps(self.state))
        new.replace(self.path)
        new_state.replace(self.path.with_suffix(".json"))
        if self.spent:
            self.model.stop_training = True

    @property
    def best(self) -> Path:
        """The weights of the epoch that validated best."""
        return self.path.with_suffix(".weights.h5")

    @property
    def spent(self) -> bool:
        """Whether the time is up."""
        return self.state["seconds"] >= 60 * self.minutes


def train(
    name: str,
    make: Callable[[], VAE],
    x: Any,
    validation: np.ndarray,
    options: argparse.Namespace,
    batch_size: int = 100,
) -> tuple[VAE, dict[str, Any]]:
    """A trained model, at its best epoch; continues where a run stopped.

    Args:
        name: of the row, and of its files.
        make: makes the compiled model.
        x: arrays or a `PyDataset`.
        validation: arrays.
        options: what `arguments` parsed.
        batch_size: of arrays.

    Returns:
        The model, and how many epochs and seconds it took.
    """
    options.out.mkdir(parents=True, exist_ok=True)
    budget = Budget(options.out / f"{name}.keras", options.minutes)
    keras.utils.set_random_seed(options.seed)
    vae = (
        keras.saving.load_model(budget.path) if budget.path.exists() else make()
    )
    done = budget.state["epochs"]
    if done < options.epochs and not budget.spent:
        print(f"{name}: epochs {done + 1} to {options.epochs}", flush=True)
        vae.fit(
            x,
            batch_size=batch_size if hasattr(x, "shape") else None,
            initial_epoch=done,
            epochs=options.epochs,
            validation_data=(validation,),
            callbacks=[budget],
            verbose=2,
        )
    vae.load_weights(budget.best)
    return vae, budget.state


def row(
    label: str,
    state: dict[str, Any],
    figure: str,
    published: str,
    remark: str = "",
) -> str:
    """A line of the table."""
    return (
        f"{label:32}{figure:>20}{published:>12}{state['epochs']:>8}"
        f"{state['seconds'] / 60:>8.1f}  {remark}"
    )


def table(title: str, rows: list[str], options: argparse.Namespace) -> None:
    """Prints the rows."""
    print(
        f"\n{title}; {options.test_limit} test images, seed {options.seed}\n"
        f"{'':32}{'ours':>20}{'published':>12}{'epochs':>8}{'min':>8}"
    )
    print("\n".join(rows))


def nll(found: MarginalLogLikelihood) -> tuple[str, str]:
    """The mean of -log p(x) and its standard error; the share of bad k-hats."""
    values = -found.log_likelihood
    error = values.std(ddof=1) / np.sqrt(len(values))
    doubtful = np.mean(~(found.pareto_k <= 0.7))
    return (
        f"{values.mean():.2f} +- {error:.2f}",
        f"k-hat > 0.7: {doubtful:.0%}",
    )


def mlp(
    sizes: tuple[int, ...],
    activation: str,
    latent: int,
    head: keras.layers.Layer,
    width: int,
) -> tuple[keras.Model, keras.Model]:
    """Dense layers of these sizes, and reversed for the decoder.

    Args:
        sizes: of the encoder's hidden layers; the decoder has them reversed.
        activation: of the hidden layers.
        latent: size of z.
        head: the decoder's distribution layer, over 784 pixels.
        width: how many parameters it takes.

    Returns:
        Encoder and decoder.
    """
    layers = keras.layers
    encoder = keras.Sequential(
        [
            keras.Input((784,)),
            *[layers.Dense(size, activation) for size in sizes],
            layers.Dense(MultivariateNormalDiag.params_size(latent)),
            MultivariateNormalDiag(latent),
        ]
    )
    decoder = keras.Sequential(
        [
            keras.Input((latent,)),
            *[layers.Dense(size, activation) for size in reversed(sizes)],
            layers.Dense(width),
            head,
        ]
    )
    return encoder, decoder
