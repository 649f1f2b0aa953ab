"""Runs every Python block of some pages, each in a process of its own."""

import pathlib
import re
import subprocess
import sys

folder, *pages = sys.argv[1:]
for page in pages:
    text = pathlib.Path(page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    assert blocks, f"no Python in {page}"
    for number, block in enumerate(blocks, 1):
        print(f"{page}: block {number} of {len(blocks)}", flush=True)
        subprocess.run([sys.executable, "-c", block], cwd=folder, check=True)
