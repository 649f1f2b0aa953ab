"""The functions for users: all checks at once, or one test per check."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hypothesis import strategies as st

from tfp_vae.testing.battery import (
    CHECKS,
    Battery,
    DistributionError,
    Report,
)
from tfp_vae.testing.verdicts import NotApplicable

__all__ = ["check_distribution", "distribution_checks"]


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
    call, and puts each through every check in `CHECKS`. The reference for all
    other methods is the integral of `exp(log_prob)`: by quadrature in float64
    for scalars, as a sum for counts, by importance sampling around the draws
    for vectors and matrices.

    - `copy`, which the others need;
    - `normalization`, `prob`, `cdf`, `quantile`, `moments`, `mode`, `entropy`,
      and `kl` (not negative, zero on itself, the integral that defines it);
    - `outside` of the support, and `tails`;
    - `samples` against the density, `stein` (their slopes, of vectors),
      `sample_moments`, `sample_shapes`, `seeds`, `independent_draws`,
      `sample_gradients`;
    - `finite_gradients` at delicate places, `gradients` against finite
      differences in float64;
    - `batch` and `broadcast` (also without a batch, and with a batch in one
      parameter only), `independent` (`tfd.Independent`), `dtype`, `jit` and
      `validate_args`.

    A check is void only if its method is not overridden. `docs/testing.md` has
    the reference of each check, and its rate of false alarms.

    Args:
        target: a distribution class that declares `_parameter_properties`, an
            instance, or a Hypothesis strategy of instances.
        parameters: for a class, Hypothesis strategies of numbers for parameters
            without a bijector in their properties, or with their own range.
        arguments: for a class, further arguments, the same for all.
        support: `(low, high)`, if the class does not define it by its
            `_default_event_space_bijector`.
        skip: names of checks to leave out.
        max_examples: how many batches are drawn.
        seed: of the draws under test.

    Returns:
        A `Report`, which prints as a table.

    Raises:
        DistributionError: if a check fails; with the first failure of each.
        TypeError: if the target is none of the three, or does not define how
            its parameters are drawn.
        ValueError: if `skip` names a check that does not exist.

    Example:
    ```python
    from tfp_vae.testing import check_distribution

    def test_my_likelihood():
        check_distribution(MyLikelihood)
    ```
    """
    battery = Battery(
        target,
        parameters=parameters,
        arguments=arguments,
        support=support,
        skip=skip,
        max_examples=max_examples,
        seed=seed,
    )
    report = battery.report()
    if report.failures:
        raise DistributionError(battery.name, report)
    return report


def distribution_checks(target: Any, **options: Any) -> Callable[[str], None]:
    """A pytest test of each check.

    A check that does not apply is skipped, with the reason.

    Args:
        target: as for `check_distribution`.
        **options: of `check_distribution`.

    Returns:
        A parametrized test function; assign it to a name that pytest collects.

    Example:
    ```python
    from tfp_vae.testing import distribution_checks

    test_my_likelihood = distribution_checks(MyLikelihood)
    ```
    """
    # The kit does not need pytest.
    import pytest

    battery = Battery(target, **options)
    names = [check for check in CHECKS if check not in battery.skip]

    @pytest.mark.parametrize("check", names)
    def test(check: str) -> None:
        try:
            failure = battery.run(check)
        except NotApplicable as reason:
            pytest.skip(str(reason))
        if failure is not None:
            pytest.fail(f"{battery.name}: {failure}", pytrace=False)

    return test
