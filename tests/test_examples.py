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


def test_unlabelled_digits_help():
    import semi_supervised

    # The classifier alone, on the 100 labels, gets 79 in 100.
    assert semi_supervised.main(epochs=40) > 0.82
    path = EXAMPLES / "semi_supervised.py"
    assert len(path.read_text().splitlines()) < 80
