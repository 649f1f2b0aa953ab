"""What `import tfp_vae` does, and does not do, in a separate process."""

import os
import subprocess
import sys
import textwrap

import keras
import pytest

BACKEND = keras.backend.backend()

EVERYTHING = """
    import importlib, pkgutil
    import tfp_vae, tfp_vae.distributions
    # In an editable install the distributions lie in a folder of their own.
    names = [
        module.name
        for package in (tfp_vae, tfp_vae.distributions)
        for module in pkgutil.walk_packages(
            package.__path__, package.__name__ + "."
        )
    ]
    assert "tfp_vae.distributions.kl" in names, names
    for name in names:
        importlib.import_module(name)
"""
NO_DEVICE = {
    "tensorflow": """
        import tensorflow as tf
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * 2,
        )
        assert len(tf.config.list_logical_devices("CPU")) == 2
    """,
    # The condition that `jax.distributed.initialize` checks.
    "jax": """
        from jax._src import xla_bridge
        assert not xla_bridge.backends_are_initialized()
    """,
}


def run(*pieces, backend=BACKEND):
    """The output of a fresh process that runs these pieces of code."""
    return subprocess.run(
        [sys.executable, "-c", "\n".join(map(textwrap.dedent, pieces))],
        # The child finds the package where the parent found it.
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_no_device_is_started():
    """Devices are configured, and processes joined, before one is started."""
    child = run(EVERYTHING, NO_DEVICE[BACKEND])
    assert child.returncode == 0, child.stderr


def test_what_only_plots_and_tests_need_is_not_needed():
    # With None the import system behaves as if it were not installed.
    # `not in sys.modules` is not enough: Keras imports those that it finds.
    hidden = ["matplotlib", "sklearn", "hypothesis", "pandas"]
    child = run(
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))",
        "import tfp_vae",
    )
    assert child.returncode == 0, child.stderr


def test_neither_is_it_imported_if_it_is_there():
    child = run(
        """
        import sys
        import keras
        if keras.backend.backend() == "jax":
            import jax
            from jax.interpreters import xla
            # TFP 0.25 by itself does not import beside JAX 0.7 and newer.
            if not hasattr(xla, "pytype_aval_mappings"):
                xla.pytype_aval_mappings = jax.core.pytype_aval_mappings
            from tensorflow_probability.substrates.jax import distributions
        else:
            from tensorflow_probability import distributions
        distributions.Normal
        before = set(sys.modules)
        import tfp_vae
        new = {name.split(".")[0] for name in set(sys.modules) - before}
        unwanted = new & {"matplotlib", "sklearn", "hypothesis", "pandas"}
        assert not unwanted, unwanted
        """
    )
    assert child.returncode == 0, child.stderr


@pytest.mark.parametrize("backend", ["numpy"])
def test_another_backend_is_refused(backend):
    child = run("import tfp_vae", backend=backend)
    assert child.returncode != 0
    last = child.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ImportError: tfp_vae runs on the TensorFlow and JAX backends"
    )
    assert f"it is '{backend}'" in last
