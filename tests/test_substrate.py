"""TFP runs beside versions of JAX that it does not know."""

import types

import pytest
from support import BACKEND

from tfp_vae import substrate

if BACKEND != "jax":
    pytest.skip("about names in JAX", allow_module_level=True)


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


def test_the_name_that_jax_took_out_is_restored(monkeypatch):
    table = {}
    found = restored(monkeypatch, {"pytype_aval_mappings": table})
    assert found["pytype_aval_mappings"] is table


def test_where_jax_has_the_name_it_stays(monkeypatch):
    own = {}
    core = {"pytype_aval_mappings": {}}
    found = restored(monkeypatch, core, pytype_aval_mappings=own)
    assert found["pytype_aval_mappings"] is own


def test_without_the_table_nothing_is_done(monkeypatch):
    # A later TFP may do without either.
    assert restored(monkeypatch, {}) == {}
