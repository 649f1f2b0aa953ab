"""TFP runs with versions of JAX and NumPy that it does not know."""

import types

import numpy as np
import pytest
from support import BACKEND, numpy

from tfp_vae import substrate

pytestmark = pytest.mark.versions

on_jax = pytest.mark.skipif(BACKEND != "jax", reason="a name in JAX")


def test_bijectors_that_pad_can_be_made():
    x = np.array([1.0, 2.0], "float32")
    found = substrate.tfb.Pad().forward(x)
    np.testing.assert_array_equal(numpy(found), [1, 2, 0])
    found = substrate.tfb.SoftmaxCentered().forward(x)
    expected = np.exp([1, 2, 0]) / np.exp([1, 2, 0]).sum()
    # A few roundings of float32.
    np.testing.assert_allclose(numpy(found), expected, rtol=1e-6)


def restored(monkeypatch, core, **names):
    xla = types.SimpleNamespace(**names)
    monkeypatch.setattr(substrate, "xla", xla)
    monkeypatch.setattr(
        substrate,
        "jax",
        types.SimpleNamespace(core=types.SimpleNamespace(**core)),
    )
    substrate._restore_pytype_aval_mappings()
    return vars(xla)


@on_jax
def test_the_name_that_jax_took_out_is_restored(monkeypatch):
    table = {}
    found = restored(monkeypatch, {"pytype_aval_mappings": table})
    assert found["pytype_aval_mappings"] is table


@on_jax
def test_where_jax_has_the_name_it_stays(monkeypatch):
    own = {}
    core = {"pytype_aval_mappings": {}}
    found = restored(monkeypatch, core, pytype_aval_mappings=own)
    assert found["pytype_aval_mappings"] is own


@on_jax
def test_without_the_table_nothing_is_done(monkeypatch):
    # A later TFP may need neither.
    assert restored(monkeypatch, {}) == {}
