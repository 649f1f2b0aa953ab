"""The meaning of "not implemented", and the origin of an error."""

import traceback
from types import FrameType
from typing import Any

from tfp_vae.substrate import tfd
from tfp_vae.testing.verdicts import Violation

__all__ = ["first_line", "is_derived", "origin", "require_not_overridden"]

_LIBRARIES = ("tensorflow_probability", "tfp_vae.distributions")
_INSTALLED = (
    "site-packages",
    "/lib/python3",
    "/tfp_vae/testing/",
    "importlib",
    "autograph",
)
# The underscore method behind a public one, if it has another name.
_NEEDS = {"sample": "_sample_n"}


def is_overridden(distribution: tfd.Distribution, method: str) -> bool:
    """Whether a class outside the libraries implements a method itself."""
    name = _NEEDS.get(method, f"_{method}")
    for cls in type(distribution).__mro__:
        if name in vars(cls):
            if vars(cls)[name] is vars(tfd.Distribution).get(name):
                return False
            return not cls.__module__.startswith(_LIBRARIES)
    return False


def is_derived(distribution: tfd.Distribution, method: str) -> bool:
    """Whether TFP's base class derives a method from another one."""
    return not any(
        f"_{method}" in vars(cls)
        for cls in type(distribution).__mro__
        if cls is not tfd.Distribution
    )


def require_not_overridden(
    distribution: tfd.Distribution, method: str, error: NotImplementedError
) -> None:
    """A check is void only if nobody claims to implement the method.

    Args:
        distribution: whose method was called.
        method: the public name.
        error: what the call raised.

    Raises:
        Violation: if the class overrides the method, and the error does not
            come from an inner distribution.
    """
    if not is_overridden(distribution, method) or _of_a_part(
        distribution, error
    ):
        return
    raise Violation(
        f"A method that a class overrides must be implemented. Received: "
        f"NotImplementedError from {type(distribution).__name__}."
        f"{_NEEDS.get(method, '_' + method)}{origin(error)}: "
        f"{first_line(error)}. Implement it, or leave it out."
    ) from error


def _of_a_part(distribution: tfd.Distribution, error: Exception) -> bool:
    """Whether an error was raised for another distribution inside."""
    frames: list[FrameType] = [
        frame for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    owner: Any = frames[-1].f_locals.get("self") if frames else None
    return isinstance(owner, tfd.Distribution) and type(owner) is not type(
        distribution
    )


def origin(error: BaseException) -> str:
    """The line of the user's code that raised an error, or an empty string."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename for part in _INSTALLED):
            return (
                f" ({frame.filename.rsplit('/', 1)[-1]}, line {frame.lineno}, "
                f"in {frame.name}: `{frame.line}`)"
            )
    return ""


def first_line(error: BaseException) -> str:
    """What an error says, without the calls that TensorFlow lists first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0] == "in user code:":
        # The message follows the calls, each of two lines.
        calls = [i for i, line in enumerate(lines) if line.startswith("File ")]
        lines = lines[calls[-1] + 2 :] if calls else lines[1:]
    said = lines[0].rstrip(".") if lines else "no message"
    return said.removeprefix(f"{type(error).__name__}: ")
