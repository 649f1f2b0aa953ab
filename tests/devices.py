"""The devices of a backend: `pytest -m gpu` selects tests that run on a GPU.

A file of tests that imports the fixture `device` runs on the CPU and on every
GPU that the backend sees. If it sees none, the tests on the first GPU are
skipped with that reason.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from support import BACKEND

if BACKEND == "jax":
    import jax

    def gpus() -> int:
        try:
            return len(jax.devices("gpu"))
        except RuntimeError:  # raised by JAX if there is none
            return 0

    def on(kind: str, index: int) -> Any:
        return jax.default_device(jax.devices(kind)[index])

    def where(tensor: Any) -> tuple[str, int]:
        (device,) = tensor.devices()
        return device.platform, device.id

else:
    import tensorflow as tf

    def gpus() -> int:
        return len(tf.config.list_physical_devices("GPU"))

    def on(kind: str, index: int) -> Any:
        return tf.device(f"/{kind}:{index}")

    def where(tensor: Any) -> tuple[str, int]:
        device = tf.DeviceSpec.from_string(tensor.device)
        return device.device_type.lower(), device.device_index


@pytest.fixture(
    autouse=True,
    scope="module",
    params=[
        pytest.param(("cpu", 0), id="cpu0"),
        *(
            pytest.param(("gpu", i), id=f"gpu{i}", marks=pytest.mark.gpu)
            for i in range(max(1, gpus()))
        ),
    ],
)
def device(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    """Runs a whole file on one device after the other."""
    kind, index = request.param
    if kind == "gpu" and not gpus():
        pytest.skip(f"{BACKEND} sees no GPU")
    with on(kind, index):
        yield request.param
