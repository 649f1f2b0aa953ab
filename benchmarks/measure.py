"""Shared by the benchmarks: alternation, medians, a table and JSON."""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any


def arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="of which the median counts"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out"), help="where JSON is written"
    )
    return parser


def in_turns(
    rivals: dict[str, Callable[[], Any]], rounds: int
) -> dict[str, float]:
    """Median seconds of each; they alternate, in an order that rotates.

    This runs without Python's garbage collector, as in `timeit`: in a process
    that holds both backends and ten models it takes up to a second of a turn.
    """
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    gc.disable()
    for number in range(rounds):
        order = list(rivals)
        for name in order if number % 2 else order[::-1]:
            start = time.perf_counter()
            rivals[name]()
            seconds[name].append(time.perf_counter() - start)
            gc.collect()
    gc.enable()
    return {name: statistics.median(found) for name, found in seconds.items()}


def fits_in_turns(
    fits: dict[str, Callable[[], Any]],
    pairs: dict[str, str],
    steps: int,
    options: argparse.Namespace,
    name: str,
) -> None:
    """Reports the milliseconds of a training step, and ratios of medians.

    Args:
        fits: each trains for `steps`, and is called once before, to compile.
        pairs: for each of them the one with which it is compared.
        steps: in one call.
        options: what `arguments` parsed.
        name: of the JSON.
    """
    for fit in fits.values():
        fit()
    seconds = in_turns(fits, options.rounds)
    points = [
        {
            "row": row,
            "milliseconds": 1e3 * found / steps,
            "ratio": found / seconds[pairs[row]],
        }
        for row, found in seconds.items()
    ]
    columns = {
        "row": ("row", ""),
        "ms a step": ("milliseconds", ".2f"),
        "ratio": ("ratio", ".2f"),
    }
    report(options.out, name, points, columns)


def in_a_process(*arguments: Any) -> Any:
    """What Python prints as JSON on its last line, in a fresh process."""
    command = [sys.executable, *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(f"{command} failed:\n{found.stderr[-2000:]}")
    return json.loads(found.stdout.splitlines()[-1])


def peak_megabytes() -> float:
    """The most memory that this process has held at once."""
    import resource

    # In kilobytes, except on macOS: in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table in Markdown."""
    for row in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def report(
    out: Path,
    name: str,
    points: Sequence[dict[str, Any]],
    columns: dict[str, tuple[str, str]],
) -> None:
    """Prints points as a table and writes them as JSON.

    Args:
        out: the folder.
        name: of the JSON.
        points: figures by name.
        columns: for each head the name and the format of its figure.
    """
    table(
        list(columns),
        [
            [format(point[key], spec) for key, spec in columns.values()]
            for point in points
        ],
    )
    write(out, name, points)


def write(out: Path, name: str, found: Any) -> None:
    """Writes the figures as JSON, in addition to the table."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"Written: {path}\n", flush=True)
