"""Profiles and quiet logs for the whole suite."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Several test processes share a GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# Two logical CPUs per backend, for the tests on replicas. Both must be
# requested before the backend starts.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=2"
)

import hypothesis
import keras
import mpmath
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Has XLA compile for speed of compiling, except in the thorough profile.

    Of a test of a second, most was LLVM at work on a function that runs once.
    What XLA makes of the mathematics stays as it is; its way to machine code
    is the older one. The examples, the documentation and the benchmarks run as
    users run them.
    """
    if (
        keras.backend.backend() != "jax"
        or config.getoption("hypothesis_profile", None) == "thorough"
    ):
        return
    # XLA stops at a flag that it does not know: JAX 0.4 and 0.11 have none.
    if (0, 6) <= jax.__version_info__ < (0, 11):
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
        jax.config.update("jax_disable_most_optimizations", True)


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )
else:
    import jax
    from jax._src import lru_cache

    def _put(self: lru_cache.LRUCache, key: str, value: bytes) -> None:
        """Writes an entry at once: JAX's own files may be read half written."""
        path = self.path / f"{key}{lru_cache._CACHE_SUFFIX}"
        part = path.with_name(f"{key}.{os.getpid()}")
        part.write_bytes(value)
        part.replace(path)

    # More than half of the time is compilation, and many tests compile the same
    # functions, also in other workers. A function that an older JAX (0.4.30)
    # reads back on a CPU may give other numbers than the one that it wrote.
    if hasattr(lru_cache, "_CACHE_SUFFIX"):
        lru_cache.LRUCache.put = _put
        for option, value in {
            "jax_compilation_cache_dir": str(
                Path(__file__).parents[1] / ".pytest_cache" / "jax"
            ),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
            # XLA's own caches, for GPUs, would make the folder a part of each
            # key.
            "jax_persistent_cache_enable_xla_caches": "none",
        }.items():
            jax.config.update(option, value)

# Derandomised, so that a red build means a change in the code. There is no
# deadline, since the first example of a property compiles or traces.
_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile(
    "default", max_examples=16, derandomize=True, **_COMMON
)
# Other examples each time; a profile takes unset options from the profile that
# is loaded, which is derandomised on a CI machine.
hypothesis.settings.register_profile(
    "thorough", max_examples=2_000, derandomize=False, **_COMMON
)
hypothesis.settings.load_profile("default")


# Enough digits that 1 - 1e-40 is not 1.
mpmath.mp.dps = 50


@pytest.fixture(autouse=True)
def _seeded() -> None:
    keras.utils.set_random_seed(0)
