"""Runs every Python block of the README, each in a process of its own."""

import pathlib
import re
import subprocess
import sys

text = pathlib.Path(__file__).parents[1].joinpath("README.md").read_text()
blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
assert blocks, "no Python in the README"
for number, block in enumerate(blocks, 1):
    print(f"block {number} of {len(blocks)}", flush=True)
    subprocess.run([sys.executable, "-c", block], cwd=sys.argv[1], check=True)
