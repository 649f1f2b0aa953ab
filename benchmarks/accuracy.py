"""Accuracy: the largest error of each method compared with mpmath, as a page.

Every distribution of this package is evaluated over a range of parameters and
values, in float32 and in float64, and compared with the mathematical definition
in mpmath: the density is normalised, and its moments, divergences and the tails
of Barron are integrated, by quadrature to 30 digits; the other tails are closed
forms; quantiles are roots. mpmath comes with the extra `test`.

    python benchmarks/accuracy.py

The worst case of every row is printed with its inputs.
"""

import argparse
import sys
from pathlib import Path

import mpmath

# The exact values are those of the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests"))

from accuracy.methods import DTYPES
from accuracy.page import DIGITS, page
from accuracy.rows import all_rows


def main() -> None:
    """Measures all rows, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/accuracy.md"))
    options = parser.parse_args()
    mpmath.mp.dps = DIGITS
    rows = []
    for row in all_rows():
        rows.append(row)
        print(row.distribution, row.method, sep=", ")
        for dtype, found in zip(DTYPES, row.worst, strict=True):
            exact = mpmath.nstr(found.case.exact, 17)
            print(
                f"  {dtype} {found.error:.1e} at {found.case.inputs}: "
                f"{found.found!r}, exactly {exact}",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page(rows))
    print(f"Written: {options.out}")


if __name__ == "__main__":
    main()
