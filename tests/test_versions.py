"""The stated versions are those that the jobs of `.ci/versions` install."""

import pathlib
import re
import runpy
from importlib import metadata

import pytest

ROOT = pathlib.Path(__file__).parents[1]
CI = runpy.run_path(str(ROOT / ".ci" / "requirements.py"))
BOUNDS = CI["bounds"]()


def release(version):
    """A version as numbers, so that 3.10 comes after 3.9."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def test_everything_has_a_lower_bound():
    # Every version has the part that TFP needs.
    assert [n for n, bound in BOUNDS.items() if not bound] == ["setuptools"]


def test_the_lowest_job_installs_the_bounds():
    """The versions as written in the file, not as the script reads them."""
    text = (ROOT / "pyproject.toml").read_text()
    text = text[text.index("\ndependencies = [") : text.index("docs = [")]
    stated = re.findall(r'"([\w.-]+(?:\[\w+\])?)>=([\d.]+)"', text)
    expected = [f"{name}=={bound}" for name, bound in stated]
    lowest = set(CI["requirements"]("lowest"))
    assert len(expected) == len(set(expected)) > 10
    assert lowest - {"setuptools"} == set(expected)


def test_the_newest_job_pins_nothing():
    newest = CI["requirements"]("newest")
    assert all(re.fullmatch(r"[\w-]+", name) for name in newest)
    assert {"tfp-nightly", "tf-keras"} <= set(newest)
    named = {name.split("[")[0] for name in BOUNDS}
    assert set(newest) >= named - {"tensorflow-probability"}


@pytest.mark.versions
@pytest.mark.parametrize("name", [n for n in BOUNDS if BOUNDS[n]])
def test_what_is_installed_is_within_the_bounds(name):
    try:
        version = metadata.version(name.split("[")[0])
    except metadata.PackageNotFoundError:
        pytest.skip("here under another name")
    assert release(version) >= release(BOUNDS[name])


def test_the_pythons_are_the_same_everywhere():
    lowest = CI["project"]()["requires-python"].removeprefix(">=")
    assert f'python_version = "{lowest}"' in (
        (ROOT / "pyproject.toml").read_text()
    )
    (stated,) = re.findall(
        r"Python (\d\.\d+ to \d\.\d+)", (ROOT / "README.md").read_text()
    )
    ends = stated.split(" to ")
    assert ends[0] == lowest
    jobs = (ROOT / ".ci" / "versions").read_text()
    assert re.findall(r"PYTHON:-python([\d.]+)", jobs) == ends
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    found = re.findall(r'"(3\.\d+)"', workflow)
    assert sorted(set(found), key=release) == [
        f"3.{minor}"
        for minor in range(release(ends[0])[1], release(ends[1])[1] + 1)
    ]
