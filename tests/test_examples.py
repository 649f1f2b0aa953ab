"""Examples give the documented results."""

import pathlib
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _from_their_folder(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


def test_generated_digits_are_those_asked_for(monkeypatch, tmp_path):
    import conditional

    picture = tmp_path / "digits.png"
    monkeypatch.setattr(sys, "argv", ["_", "--picture", str(picture)])
    assert conditional.main() >= 0.95
    assert picture.exists()


def test_a_ladder_shares_its_path(tmp_path):
    import keras
    import ladder
    import numpy as np

    x = (np.random.default_rng(0).random((32, 64)) < 0.4).astype("float32")
    vae = ladder.models(64, steps=2)["ladder"]
    vae.compile("adam")
    logs = vae.fit(x, epochs=1, verbose=0).history
    assert {"kl", "kl_z1", "kl_z2", "beta_z2"} <= logs.keys()
    prior, encoder, decoder, both = (
        {id(v) for v in layer.trainable_variables}
        for layer in (vae.prior, vae.encoder, vae.decoder, vae)
    )
    assert prior
    assert prior <= encoder
    assert len(vae.trainable_variables) == len(encoder | decoder)
    assert both == encoder | decoder
    vae.save(tmp_path / "ladder.keras")
    loaded = keras.saving.load_model(tmp_path / "ladder.keras")
    assert loaded.encoder.top_down is loaded.prior
    np.testing.assert_allclose(
        loaded.evaluate(x, verbose=0), vae.evaluate(x, verbose=0), rtol=1e-5
    )
    assert vae.marginal_log_likelihood(x[:4], 20).log_likelihood.shape == (4,)


def test_unlabelled_digits_help():
    import semi_supervised

    # The classifier alone, on the 100 labels, gets 79 in 100.
    assert semi_supervised.main(epochs=40) > 0.82
    path = EXAMPLES / "semi_supervised.py"
    assert len(path.read_text().splitlines()) < 80
