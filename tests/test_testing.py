"""The kit finds planted faults, and passes right distributions."""

import re

import pytest
from hypothesis import settings
from planted_faults import FAULTS, EntropyInBits, Typo, name_of
from right_targets import USERS, Laplace, Right
from support import BACKEND
from tfp_targets import KNOWN, KNOWN_ON_JAX, TFPS, numbers

from tfp_vae import distributions as ours
from tfp_vae.substrate import tfd
from tfp_vae.testing import (
    CHECKS,
    DistributionError,
    check_distribution,
    distribution_checks,
    instances,
)
from tfp_vae.testing.battery import Battery

# A warning of TFP's samplers, on JAX.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Explicitly requested dtype:UserWarning"
)
THOROUGH = settings.default.max_examples > 500
# A case is a batch of three parameter sets through some twenty checks.
EXAMPLES = 5 if THOROUGH else 2


def a_few(faults):
    """One fault for each set of checks, or all of them."""
    if THOROUGH:
        return faults
    seen = {frozenset(checks): target for target, checks in reversed(faults)}
    return [(target, set(checks)) for checks, target in seen.items()]


def only(names, targets):
    """The faults with some names, or all of them."""
    return [t for t in targets if THOROUGH or name_of(t[0]) in names]


@pytest.mark.parametrize(
    ("target", "checks"),
    a_few(FAULTS),
    ids=[name_of(target) for target, _ in a_few(FAULTS)],
)
def test_each_fault_is_caught_by_the_check_meant_for_it(target, checks):
    # The others are left out, since one fault may fail several checks.
    with pytest.raises(DistributionError) as info:
        check_distribution(target, max_examples=2, skip=set(CHECKS) - checks)
    assert set(info.value.failures) == checks, info.value
    for message in info.value.failures.values():
        assert re.search(r"Received: .*\w|instead of an answer", message)
    assert name_of(target).strip("()") in str(info.value)


def test_a_fault_of_one_method_is_blamed_on_it_alone():
    with pytest.raises(DistributionError) as info:
        check_distribution(EntropyInBits, max_examples=2)
    assert set(info.value.failures) == {"entropy"}


def test_one_cause_of_many_failures_is_told_once_with_its_line():
    with pytest.raises(DistributionError) as info:
        check_distribution(Typo, max_examples=1)
    text = str(info.value)
    assert len(info.value.failures) > 10
    assert len(text.splitlines()) < 6
    assert "normalization, " in text
    assert "has no attribute '_sclae'" in text
    assert re.search(r"planted_faults.py, line \d+, in _log_prob", text)


_USERS = only({"Right", "EitherRate", "MixtureOfTwo", "Die"}, USERS)


@pytest.mark.parametrize(
    ("cls", "options"), _USERS, ids=[name_of(cls) for cls, _ in _USERS]
)
def test_right_classes_pass(cls, options):
    report = check_distribution(cls, max_examples=EXAMPLES, **options)
    if cls is Right:
        void = {"kl", "outside", "stein"}
        assert set(report.passed) == set(CHECKS) - void
        assert set(report.not_applicable) == void


def charbonnier(r):
    return (1.0 + r * r) ** 0.5


OURS = [
    (ours.Huber, {}),
    (ours.HyperbolicSecant, {}),
    (ours.AsymmetricLaplace, {}),
    # At 2 the derivative in alpha does not exist; see the class.
    (ours.Barron, {"parameters": {"alpha": numbers(0.5, 1.9)}}),
    (ours.Bernoulli, {"arguments": {"dtype": "float32"}}),
    (ours.Gibbs, {"arguments": {"energy": charbonnier}}),
]


@pytest.mark.parametrize(
    ("cls", "options"), OURS, ids=[cls.__name__ for cls, _ in OURS]
)
def test_our_distributions_pass(cls, options):
    check_distribution(cls, max_examples=EXAMPLES, **options)


# A selection; on JAX compilation takes most of the time.
_NAMES = {"Normal()", "Normal(1e4, 0.1)", "Poisson", "Dirichlet", "VonMises"}
_NAMES |= {"MixtureSameFamily", "Mixture", "Poisson(7e3)"}
if BACKEND == "jax":
    _NAMES = {"Normal()", "Categorical"}
_TFPS = [t for t in TFPS if THOROUGH or t[0] in _NAMES]


@pytest.mark.parametrize(
    ("name", "target", "options"), _TFPS, ids=[name for name, *_ in _TFPS]
)
def test_what_is_found_in_tfp_is_true(name, target, options):
    known = set(KNOWN.get(name, ()))
    if BACKEND == "jax":
        known |= KNOWN_ON_JAX.get(name, set())
    report = Battery(target, max_examples=EXAMPLES, **options).report()
    assert set(report.failures) <= known, report
    assert {"normalization", "samples"} & (
        set(report.passed) | set(report.failures)
    ), report


def test_a_test_for_each_check():
    test = distribution_checks(EntropyInBits, max_examples=1, skip=["jit"])
    (mark,) = test.pytestmark
    assert mark.args == ("check", [c for c in CHECKS if c != "jit"])
    test("prob")
    with pytest.raises(pytest.skip.Exception, match="no closed KL"):
        test("kl")
    with pytest.raises(pytest.fail.Exception, match=r"^EntropyInBits: entropy"):
        test("entropy")


def test_the_report_is_a_table():
    skip = set(CHECKS) - {"prob", "entropy", "stein"}
    report = check_distribution(Laplace, max_examples=1, skip=skip)
    assert str(report).splitlines() == [
        "entropy  void    no entropy",
        "prob     passed",
        "stein    void    `samples` looks at scalars",
    ]


def test_targets():
    checks = {"kl", "cdf"}
    options = {"max_examples": 1, "skip": set(CHECKS) - checks}
    fixed = tfd.Normal([0.0, 1.0, 2.0], 1.0)
    assert set(check_distribution(fixed, **options).passed) == checks
    drawn = instances(tfd.Normal, {"loc": numbers(5, 6)})
    assert set(check_distribution(drawn, **options).passed) == checks
    with pytest.raises(TypeError, match=r"takes a distribution class.*print"):
        check_distribution(print)
    with pytest.raises(ValueError, match=r"names of checks.*speed"):
        check_distribution(tfd.Normal, skip=["speed"])


def test_draws_beyond_the_largest_number_are_infinite():
    """1 in 70,000 is above 3.4e38 here: expected, and not a fault."""
    heavy = tfd.InverseGamma([0.127, 0.127, 0.127], 0.5)
    skip = set(CHECKS) - {"samples", "independent_draws"}
    for seed in range(4):
        battery = Battery(heavy, max_examples=1, skip=skip)
        battery.reseeded(seed)
        assert not battery.report().failures


def test_what_cannot_be_drawn_is_said():
    class Undeclared(tfd.Distribution):
        pass

    with pytest.raises(TypeError, match="must declare its parameters"):
        instances(Undeclared)
    with pytest.raises(TypeError, match=r"`high` of Uniform without one"):
        instances(tfd.Uniform)


@pytest.mark.parametrize(
    ("target", "check", "reason"),
    [
        (
            lambda: tfd.PowerSpherical([0.0, 1.0, 0.0], 3.0),
            "stein",
            "come back",
        ),
        (lambda: tfd.Bernoulli(probs=1e-6), "seeds", "one outcome has"),
    ],
    ids=["unit vectors", "rare events"],
)
def test_what_cannot_be_judged_is_void(target, check, reason):
    skip = set(CHECKS) - {check}
    report = check_distribution(target(), max_examples=1, skip=skip)
    assert reason in report.not_applicable[check]
