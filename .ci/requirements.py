"""What pip should install at one end of the versions in pyproject.toml.

    python .ci/requirements.py lowest | newest

Lowest: every requirement with its lower bound as the version. Newest: the bare
names, with tfp-nightly instead of tensorflow-probability; pip does not know
that they are the same.
"""

import pathlib
import re
import sys
from typing import Any

try:
    import tomllib
except ImportError:  # Python 3.10
    try:
        import tomli as tomllib  # pytest brings it there
    except ImportError:
        from pip._vendor import tomli as tomllib

ROOT = pathlib.Path(__file__).parents[1]
_PARTS = re.compile(
    r"(?P<name>[\w.-]+)(?P<extra>\[[\w,-]+\])?(>=(?P<bound>[\d.]+))?"
    r"(?P<marker>; .*)?"
)


def project() -> dict[str, Any]:
    """The table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bounds() -> dict[str, str | None]:
    """The lower bound of everything that the tests need, by name."""
    table = project()
    optional = table["optional-dependencies"]
    found: dict[str, str | None] = {}
    pending = [*table["dependencies"], *optional["test"]]
    for line in pending:
        parts = _PARTS.fullmatch(line)
        if parts is None:
            raise ValueError(f"Only a lower bound is understood: {line}")
        if parts["name"] == table["name"]:
            for extra in parts["extra"].strip("[]").split(","):
                pending.extend(optional[extra])
        else:
            found[parts["name"] + (parts["extra"] or "")] = parts["bound"]
    return found


def requirements(end: str) -> list[str]:
    """The requirements in pip's format."""
    found = bounds()
    if end == "lowest":
        return [
            name if bound is None else f"{name}=={bound}"
            for name, bound in found.items()
        ]
    names = [*found, "tf-keras", "tfp-nightly"]
    return [n for n in names if not n.startswith("tensorflow-probability")]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
