"""The battery of checks, run over random parameters."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import hypothesis
import numpy as np
from hypothesis import strategies as st

from tfp_vae.substrate import tfd
from tfp_vae.testing import (
    contract_checks,
    density_checks,
    gradient_checks,
    sampling_checks,
)
from tfp_vae.testing.case import Case, Check, NotApplicable, Violation
from tfp_vae.testing.strategies import instances

__all__ = ["CHECKS", "DistributionError", "Report", "check_distribution"]

_MODULES = (density_checks, sampling_checks, gradient_checks, contract_checks)

#: The checks by name, in the order in which they run.
CHECKS: dict[str, Check] = {
    name.removeprefix("check_"): getattr(module, name)
    for module in _MODULES
    for name in module.__all__
}
# Compilation is slow, and the same for all parameters.
_ONCE = ("jit", "validate_args", "independent_draws")


class Report(NamedTuple):
    """What was checked.

    Attributes:
        passed: the names of the checks that the distribution passed.
        not_applicable: those that had nothing to say, and why.
    """

    passed: tuple[str, ...]
    not_applicable: dict[str, str]


class DistributionError(AssertionError):
    """A distribution failed some of its checks.

    Attributes:
        failures: the message of each check that failed, by its name.
    """

    def __init__(self, name: str, failures: dict[str, str], count: int) -> None:
        self.failures = failures
        lines = [f"  {check}: {text}" for check, text in failures.items()]
        super().__init__(
            f"{name} fails {len(failures)} of {count} checks:\n"
            + "\n".join(lines)
        )


def check_distribution(
    target: Any,
    *,
    parameters: Mapping[str, st.SearchStrategy[float]] | None = None,
    arguments: Mapping[str, Any] | None = None,
    support: tuple[float, float] | None = None,
    skip: Iterable[str] = (),
    max_examples: int = 5,
    seed: int = 0,
) -> Report:
    """Checks a distribution against its own density, and against TFP's rules.

    Draws batches of three parameter sets with Hypothesis, the same at each
    call, and puts each through every check in `CHECKS`. The integral of
    `exp(log_prob)` by quadrature in float64 is what all else is held against:

    - `normalization`, `prob`, `cdf`, `quantile`, `moments`, `mode`, `entropy`,
      and `kl` (not negative, zero on itself, the integral that defines it);
    - `samples` against the density by the distance of the empirical cdf (false
      alarms: 1e-9 a distribution), `sample_moments`, `sample_shapes`, `seeds`,
      `independent_draws`;
    - `finite_gradients` at delicate places, `gradients` against finite
      differences in float64;
    - `batch` (broadcasting and slices), `independent` (`tfd.Independent`),
      `dtype`, `jit` and `validate_args`.

    Checks of integrals take a scalar event; the others take any.

    Args:
        target: a distribution class that declares `_parameter_properties`, an
            instance, or a Hypothesis strategy of instances.
        parameters: for a class, Hypothesis strategies of numbers for parameters
            without a bijector in their properties, or with a range of their
            own.
        arguments: for a class, further arguments, the same for all.
        support: `(low, high)`, if the class does not say it by its
            `_default_event_space_bijector`.
        skip: names of checks to leave out.
        max_examples: how many batches are drawn.
        seed: of the draws under test.

    Returns:
        A `Report`.

    Raises:
        DistributionError: if a check fails; with the first failure of each.
        TypeError: if the target is none of the three, or does not say how its
            parameters are drawn.
        ValueError: if `skip` names a check that does not exist.

    Example:
    ```python
    from tfp_vae.testing import check_distribution

    def test_my_likelihood():
        check_distribution(MyLikelihood)
    ```
    """
    skip = set(skip)
    if not skip <= set(CHECKS):
        raise ValueError(
            f"skip takes names of checks, {', '.join(CHECKS)}. Received: "
            f"{', '.join(sorted(skip - set(CHECKS)))}."
        )
    name, strategy = _strategy(target, parameters, arguments or {})
    failures: dict[str, str] = {}
    idle: dict[str, str] = {}
    ran: set[str] = set()
    compiled: dict[Any, Any] | None = {} if isinstance(target, type) else None

    @hypothesis.settings(
        max_examples=max_examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def run(distribution: tfd.Distribution) -> None:
        case = Case(distribution, support, seed, compiled)
        for check, function in CHECKS.items():
            if check in skip or check in failures:
                continue
            if check in _ONCE and check in ran:
                continue
            try:
                # Infinities are told apart by what comes of them.
                with np.errstate(all="ignore"):
                    function(case)
                ran.add(check)
            except NotApplicable as reason:
                idle[check] = str(reason)
            except Violation as violation:
                failures[check] = str(violation)
            except Exception as error:
                failures[check] = (
                    f"{type(error).__name__} instead of an answer, for {case}: "
                    f"{error}"
                )

    run()
    if failures:
        raise DistributionError(name, failures, len(CHECKS) - len(skip))
    passed = tuple(check for check in CHECKS if check in ran)
    return Report(passed, {k: v for k, v in idle.items() if k not in ran})


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
