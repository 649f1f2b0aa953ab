"""Runs scripts, and the Python blocks of pages, one after another.

All run in this process, since the imports of Keras, TensorFlow and TFP take
longer than most of them. Each has its own names, arguments and first folder of
`sys.path`, as in a separate process.

    python .ci/scripts.py FOLDER < lines

A line is the path of a script and its arguments, or the path of a page; blocks
run in FOLDER, where they may write.
"""

import os
import pathlib
import re
import runpy
import shlex
import sys
import time
from collections.abc import Iterator

import keras


def programs(line: str, folder: pathlib.Path) -> Iterator[tuple[str, ...]]:
    """The working folder, the path and the arguments of each program."""
    path, *arguments = shlex.split(line)
    if not path.endswith(".md"):
        yield ".", path, *arguments
        return
    text = pathlib.Path(path).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    assert blocks, f"no Python in {path}"
    for number, block in enumerate(blocks, 1):
        file = folder / f"{pathlib.Path(path).stem}_{number}.py"
        file.write_text(block)
        yield str(folder), str(file), *arguments


def run(folder: str, path: str, *arguments: str) -> None:
    """Runs one program, and restores all settings."""
    start = time.perf_counter()
    print(f"--- {shlex.join([path, *arguments])}", flush=True)
    first, here = sys.path[0], os.getcwd()
    sys.argv = [path, *arguments]
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    keras.config.set_dtype_policy("float32")
    os.chdir(folder)
    runpy.run_path(path, run_name="__main__")
    os.chdir(here)
    sys.path[0] = first
    print(f"--- {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Runs all programs named in standard input."""
    folder = pathlib.Path(sys.argv[1]).resolve()
    for line in filter(str.strip, sys.stdin):
        for program in programs(line, folder):
            run(*program)


if __name__ == "__main__":
    main()
