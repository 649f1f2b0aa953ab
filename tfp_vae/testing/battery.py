"""All checks over a few distributions, and their results."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import hypothesis
import numpy as np
from hypothesis import strategies as st

from tfp_vae.substrate import tfd
from tfp_vae.testing import (
    contract_checks,
    density_checks,
    draw_gradients,
    gradient_checks,
    sampling_checks,
    support_checks,
)
from tfp_vae.testing.case import Case, Check
from tfp_vae.testing.implemented import first_line, origin
from tfp_vae.testing.strategies import instances
from tfp_vae.testing.verdicts import NotApplicable, Violation

__all__ = ["CHECKS", "Battery", "DistributionError", "Report"]

_MODULES = (
    density_checks,
    support_checks,
    sampling_checks,
    gradient_checks,
    draw_gradients,
    contract_checks,
)

#: The checks by name, in the order in which they run.
CHECKS: dict[str, Check] = {
    "copy": contract_checks.check_copy,
    **{
        name.removeprefix("check_"): getattr(module, name)
        for module in _MODULES
        for name in module.__all__
    },
}
# Expensive, or the same for all parameters.
_ONCE = (
    "batch",
    "jit",
    "dtype",
    "validate_args",
    "independent_draws",
    "broadcast",
    "sample_gradients",
    "seeds",
    "sample_shapes",
    "independent",
)


class Report(NamedTuple):
    """The results of the checks; it prints as a table.

    Attributes:
        passed: the names of the checks that the distribution passed.
        not_applicable: the checks that do not apply, and why.
        failures: the checks that failed, with the first failure of each.
    """

    passed: tuple[str, ...]
    not_applicable: dict[str, str]
    failures: dict[str, str]

    def __str__(self) -> str:
        rows = {
            **dict.fromkeys(self.passed, ("passed", "")),
            **{k: ("void", why) for k, why in self.not_applicable.items()},
            **{k: ("FAILED", why) for k, why in self.failures.items()},
        }
        width = max(map(len, rows), default=0)
        return "\n".join(
            f"{name:{width}}  {rows[name][0]:6}  {rows[name][1]}".rstrip()
            for name in CHECKS
            if name in rows
        )


class DistributionError(AssertionError):
    """A distribution failed some of its checks.

    Attributes:
        failures: the message of each check that failed, by its name.
        report: the whole `Report`.
    """

    def __init__(self, name: str, report: Report) -> None:
        self.report = report
        self.failures = report.failures
        # One cause often fails many checks.
        together: dict[str, list[str]] = {}
        for check, text in report.failures.items():
            together.setdefault(text, []).append(check)
        lines = [
            f"  {', '.join(checks)}: {text}"
            for text, checks in together.items()
        ]
        count = len(report.failures) + len(report.passed)
        super().__init__(
            f"{name} fails {len(report.failures)} of {count} checks:\n"
            + "\n".join(lines)
        )


class Battery:
    """The checks over random parameters; see `check_distribution`.

    Args:
        target: a class, an instance or a strategy.
        parameters: see `check_distribution`.
        arguments: see `check_distribution`.
        support: see `check_distribution`.
        skip: names of checks to leave out.
        max_examples: how many distributions are drawn.
        seed: an int.
    """

    def __init__(
        self,
        target: Any,
        *,
        parameters: Mapping[str, st.SearchStrategy[float]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        support: tuple[float, float] | None = None,
        skip: Iterable[str] = (),
        max_examples: int = 5,
        seed: int = 0,
    ) -> None:
        self.skip = set(skip)
        if not self.skip <= set(CHECKS):
            raise ValueError(
                f"skip takes names of checks, {', '.join(CHECKS)}. Received: "
                f"{', '.join(sorted(self.skip - set(CHECKS)))}."
            )
        self.name, self._strategy = _strategy(
            target, parameters, arguments or {}
        )
        self._support = support
        self._max_examples = max_examples
        self._seed = seed
        # Instances of a strategy may differ in more than their parameters.
        self._compiled: dict[Any, Any] | None = (
            None if isinstance(target, st.SearchStrategy) else {}
        )

    @functools.cached_property
    def cases(self) -> list[Case]:
        """The distributions under test, the same at each call."""
        found: list[tfd.Distribution] = []

        @hypothesis.settings(
            max_examples=self._max_examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(self._strategy)
        def draw(distribution: tfd.Distribution) -> None:
            found.append(distribution)

        draw()
        return [
            Case(each, self._support, self._seed, self._compiled)
            for each in found
        ]

    def reseeded(self, seed: int) -> None:
        """Makes new cases, for other draws, with the compiled functions."""
        self._seed = seed
        self.__dict__["cases"] = [
            Case(case.distribution, self._support, seed, self._compiled)
            for case in self.cases
        ]

    @functools.cached_property
    def _copies(self) -> str | None:
        return self._failure(CHECKS["copy"], self.cases[0])

    def _failure(
        self, function: Callable[[Case], None], case: Case
    ) -> str | None:
        """What is wrong, or None.

        Raises:
            NotApplicable: if the check does not apply.
        """
        try:
            # The checks handle infinities themselves.
            with np.errstate(all="ignore"):
                function(case)
        except NotApplicable:
            raise
        except Violation as violation:
            return str(violation)
        except Exception as error:
            return (
                f"{type(error).__name__} instead of an answer"
                f"{origin(error)}: {first_line(error)}. For {case}"
            )
        return None

    def run(self, check: str) -> str | None:
        """One check over all cases.

        Args:
            check: its name.

        Returns:
            The first failure, or None.

        Raises:
            NotApplicable: if it applies to none of them.
        """
        if check == "copy":
            return self._copies
        if self._copies is not None:
            raise NotApplicable("`copy` fails, on which it rests")
        reason = None
        ran = False
        for case in self.cases:
            if ran and check in _ONCE:
                break
            try:
                failure = self._failure(CHECKS[check], case)
            except NotApplicable as void:
                reason = reason or void
                continue
            if failure is not None:
                return failure
            ran = True
        if not ran and reason is not None:
            raise reason
        return None

    def report(self) -> Report:
        """All checks."""
        passed, void, failures = [], {}, {}
        for check in CHECKS:
            if check in self.skip:
                continue
            try:
                failure = self.run(check)
            except NotApplicable as reason:
                void[check] = str(reason)
                continue
            if failure is None:
                passed.append(check)
            else:
                failures[check] = failure
        return Report(tuple(passed), void, failures)


def _strategy(
    target: Any,
    parameters: Mapping[str, st.SearchStrategy[float]] | None,
    arguments: Mapping[str, Any],
) -> tuple[str, st.SearchStrategy[tfd.Distribution]]:
    if isinstance(target, type) and issubclass(target, tfd.Distribution):
        return target.__name__, instances(target, parameters, **arguments)
    if isinstance(target, tfd.Distribution):
        return type(target).__name__, st.just(target)
    if isinstance(target, st.SearchStrategy):
        return "The distribution", target
    raise TypeError(
        "check_distribution takes a distribution class of the running backend, "
        "an instance of one, or a Hypothesis strategy of instances. Received: "
        f"{target!r}."
    )
