"""What MkDocs needs besides `mkdocs.yml`: one API page per public module.

The pages are made from the source as text: nothing of the package is imported,
so that the site is built without TensorFlow.
"""

import ast
import pathlib
import shutil

from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
SOURCE = ROOT / "out" / "docs-source"

#: Each public module, in the order of the menu, and what is in it.
MODULES = {
    "tfp_vae": "The names that most programs need.",
    "tfp_vae.models": "Keras models that train and evaluate distributions.",
    "tfp_vae.layers": "Keras layers that return distributions.",
    "tfp_vae.tfp_layers": "`tfp.layers` on Keras 3, name for name.",
    "tfp_vae.distributions": "Distributions that TFP lacks.",
    "tfp_vae.objectives": "What a variational autoencoder maximises.",
    "tfp_vae.losses": "Negative log-likelihoods, and hand-written losses read "
    "as likelihoods.",
    "tfp_vae.evaluation": "Quantities that compare trained models.",
    "tfp_vae.tables": "Tables of named columns, to arrays and back.",
    "tfp_vae.training": "Fast `fit` for any Keras model.",
    "tfp_vae.callbacks": "What to watch while a model trains.",
    "tfp_vae.plotting": "Figures.",
    "tfp_vae.testing": "Property tests for any distribution.",
}


def on_startup(command, dirty):
    """Lays the package out as installed, before its place is looked up."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    skipped = shutil.ignore_patterns("__pycache__", "distributions")
    shutil.copytree(ROOT / "tfp_vae", SOURCE / "tfp_vae", ignore=skipped)
    shutil.copytree(
        ROOT / "distributions", SOURCE / "tfp_vae" / "distributions"
    )


def on_files(files: Files, config):
    """Adds the API pages."""
    for module, what in MODULES.items():
        files.append(
            File.generated(config, page_of(module), content=page(module, what))
        )
    return files


def page_of(module: str) -> str:
    """The path of a module's page."""
    return f"api/{module}.md"


def page(module: str, what: str) -> str:
    """The page of a module: its public names, in the order of `__all__`."""
    names = [n for n in public_names(module) if not is_module(module, n)]
    lines = [f"# {module}", "", what, ""]
    for name in names:
        lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


def public_names(module: str) -> list[str]:
    """The `__all__` of a module, without names between underscores."""
    for node in ast.parse(path_of(module).read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == (
            "__all__"
        ):
            names = ast.literal_eval(node.value)
            return [n for n in names if not n.startswith("__")]
    raise ValueError(f"No __all__ in {module}.")


def path_of(module: str) -> pathlib.Path:
    """The file of a module, as it is installed."""
    stem = SOURCE.joinpath(*module.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def is_module(package: str, name: str) -> bool:
    """Whether a name of a package is a module."""
    return path_of(f"{package}.{name}").exists()
