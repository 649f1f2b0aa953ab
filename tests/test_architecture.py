"""The rooms of the house, and who may import whom."""

import ast
import pathlib
import re

import pytest

import tfp_vae

ROOT = pathlib.Path(tfp_vae.__file__).parent
DISTRIBUTIONS = pathlib.Path(tfp_vae.distributions.__file__).parent

# From the ground up: a room imports only from the floors below its own.
STOREYS = [
    {
        "substrate",
        "keras_internals",
        "arguments",
        "checks",
        "latents",
        "pareto",
        "reduction",
    },
    {"samples", "warn", "_version"},
    {"entries"},
    {"distributions", "tables", "testing", "training"},
    {"layers", "losses"},
    {"objectives"},
    {"evaluation"},
    {"models"},
    {"callbacks", "plotting", "annealing", "calibration", "tfp_layers"},
]
STOREY = {room: i for i, rooms in enumerate(STOREYS) for room in rooms}


def files():
    yield from (
        (path, ["tfp_vae", *path.relative_to(ROOT).with_suffix("").parts])
        for path in ROOT.rglob("*.py")
        if DISTRIBUTIONS not in path.parents
        and "distributions" not in path.relative_to(ROOT).parts
    )
    yield from (
        (path, ["tfp_vae", "distributions", path.stem])
        for path in DISTRIBUTIONS.glob("*.py")
    )


FILES = [(path, module) for path, module in files() if len(module) > 1]
ROOMS = {module[1] for _, module in FILES if module[1:] != ["__init__"]}


def imported(path):
    """The rooms that a file imports, anywhere in it, and the names."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "tfp_vae" and len(parts) > 1:
                yield parts[1:]


def test_every_room_has_its_storey():
    assert set(STOREY) == ROOMS


@pytest.mark.parametrize(
    ("path", "module"), FILES, ids=[".".join(m[1:]) for _, m in FILES]
)
def test_no_import_goes_upward(path, module):
    room = module[1]
    if room == "__init__":
        return
    for other, *_ in imported(path):
        if other == room:
            continue
        assert STOREY[other] < STOREY[room] or (
            # The ground floor, file by file.
            STOREY[other] == STOREY[room] == 0
        ), f"{'.'.join(module)} imports {other}"


def test_no_circle_within_a_room():
    """In a room, and on the ground floor, imports form no circle."""
    arrows = {}
    names = {".".join(m[1:]).removesuffix(".__init__") for _, m in FILES}
    for path, module in FILES:
        name = ".".join(module[1:])
        if name.endswith("__init__"):
            continue  # it only collects the names of its files
        arrows[name] = {
            found
            for parts in imported(path)
            for end in (len(parts), len(parts) - 1)
            if (found := ".".join(parts[:end])) in names and found != name
        }
    done = set()

    def visit(name, way):
        assert name not in way, f"a circle: {[*way, name]}"
        if name in done:
            return
        for other in arrows.get(name, ()):
            visit(other, [*way, name])
        done.add(name)

    for name in arrows:
        visit(name, [])


def test_training_knows_no_distribution():
    words = re.compile(r"\b(VAE|prior|posterior|kl|tfd|likelihood)\b", re.I)
    for path in (ROOT / "training").glob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not words.search(line), f"{path.name}:{number}: {line}"


# Attributes with an underscore of objects that are Keras' own. Those of
# `self` are ours; a layer of ours that sets one of Keras' is found by its name.
PRIVATE = re.compile(
    r"keras\.src|\b(model|layer|loss|variable|optimizer|metric|keras)\._[a-z]"
    r"|\._(flatten_layers|convert_input_args|fn_kwargs|jax_state|value)\b"
    r"|_use_cached_eval_dataset"
)


def test_private_keras_is_in_one_file():
    for path, module in FILES:
        if module[1] == "keras_internals":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not PRIVATE.search(line), f"{path.name}:{number}: {line}"
    assert PRIVATE.search((ROOT / "keras_internals.py").read_text())


def test_no_file_is_too_long_for_one_idea():
    for path, module in FILES:
        lines = len(path.read_text().splitlines())
        assert lines <= 450, f"{'.'.join(module)} has {lines} lines"
