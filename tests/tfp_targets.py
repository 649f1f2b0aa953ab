"""TFP distributions that the kit must pass, and the true faults in TFP."""

import numpy as np
from hypothesis import strategies as st

from tfp_vae.substrate import linalg, tfd


def numbers(low, high):
    """Numbers in steps of a tenth."""
    return st.integers(round(10 * low), round(10 * high)).map(lambda n: n / 10)


def _tfp():
    """Forty distributions of TFP, built on demand: (name, target, options)."""
    positive, real = numbers(0.5, 3), numbers(-2, 2)
    classes = [
        (tfd.Normal, {}),
        (tfd.Laplace, {}),
        (tfd.Logistic, {}),
        (tfd.Gumbel, {}),
        (tfd.Cauchy, {}),
        (tfd.Exponential, {}),
        (tfd.HalfNormal, {}),
        (tfd.Moyal, {}),
        (tfd.Uniform, {"low": numbers(-2, 0), "high": numbers(1, 2)}),
        (tfd.LogNormal, {}),
        (tfd.StudentT, {"df": numbers(1, 9)}),
        (tfd.VonMises, {"concentration": numbers(1, 2), "loc": numbers(1, 2)}),
        (tfd.Gamma, {}),
        (tfd.InverseGamma, {}),
        (tfd.Beta, {}),
        (tfd.Chi2, {}),
        (tfd.Weibull, {"concentration": positive, "scale": positive}),
        (tfd.Kumaraswamy, {"concentration0": positive}),
        (tfd.LogitNormal, {}),
        (tfd.LogLogistic, {"loc": real, "scale": numbers(0.2, 1)}),
        (tfd.GeneralizedNormal, {"power": numbers(1, 3)}),
        (tfd.JohnsonSU, {}),
        (tfd.InverseGaussian, {}),
        (tfd.Bernoulli, {}),
        (tfd.Geometric, {}),
        (tfd.Poisson, {}),
        (tfd.NegativeBinomial, {"total_count": numbers(1, 9)}),
        (tfd.Categorical, {}),
        (tfd.MultivariateNormalDiag, {}),
        (tfd.MultivariateNormalTriL, {}),
        (tfd.Dirichlet, {}),
    ]
    for cls, parameters in classes:
        options = {"parameters": parameters}
        # On JAX outcomes beyond the last one get a probability.
        if cls is tfd.Categorical:
            options["support"] = (0, 1)
        yield cls.__name__, cls, options
    loc = np.float32([[0.0, 1.0], [-1.0, 0.5]])
    tril = np.float32([[[1.0, 0.0], [0.3, 0.8]], [[0.5, 0.0], [-0.2, 1.5]]])
    logits = np.float32([[0.0, 1.0, 0.5], [0.1, -0.2, 0.3]])
    two = np.float32([3.0, 1.5])
    for name, target in (
        ("Normal()", tfd.Normal(0.0, 1.0)),
        ("Normal(1e4, 0.1)", tfd.Normal([1e4], [0.1])),
        ("Normal(float16)", tfd.Normal(np.float16([0, 1]), np.float16(1))),
        ("Uniform(5, 6)", tfd.Uniform(5.0, 6.0)),
        ("Pareto", tfd.Pareto(two, two)),
        ("Binomial", tfd.Binomial(np.float32([10, 20]), probs=[0.3, 0.4])),
        ("Independent", tfd.Independent(tfd.Normal(loc, 1.0), 1)),
        (
            "MultivariateStudentT",
            tfd.MultivariateStudentTLinearOperator(
                np.float32([5.0, 3.0]),
                loc,
                linalg.LinearOperatorLowerTriangular(
                    tril, is_non_singular=True
                ),
            ),
        ),
        (
            "WishartTriL",
            tfd.WishartTriL(np.float32([4.0, 5.0]), scale_tril=tril),
        ),
        (
            "MatrixNormal",
            tfd.MatrixNormalLinearOperator(
                np.zeros([2, 2], "float32"),
                linalg.LinearOperatorLowerTriangular(
                    tril, is_non_singular=True
                ),
                linalg.LinearOperatorLowerTriangular(
                    tril[::-1], is_non_singular=True
                ),
            ),
        ),
        ("Multinomial", tfd.Multinomial(np.float32(5), logits=logits)),
        ("OneHotCategorical", tfd.OneHotCategorical(logits=logits)),
        ("Poisson(7e3)", tfd.Poisson(np.float32([3.0, 7e3, 3e4]))),
        (
            "MixtureSameFamily",
            tfd.MixtureSameFamily(
                tfd.Categorical(logits), tfd.Normal(3.0 * logits, 0.5)
            ),
        ),
        (
            "Mixture",
            tfd.Mixture(
                tfd.Categorical([0.0, 1.0]),
                [
                    tfd.MultivariateNormalDiag([0.0, 1.0], [1.0, 0.5]),
                    tfd.MultivariateNormalDiag([2.0, 0.0], [1.0, 1.0]),
                ],
            ),
        ),
    ):
        yield name, target, {}


TFPS = list(_tfp())

_UNCHECKED = {"validate_args"}  # a negative scale passes
# Both sides of 0 times a logarithm have no gradient there (`xlogy`).
_XLOGY = {"gradients"}
#: The true faults of TFP 0.25 that these show, by check.
KNOWN = {
    "LogNormal": _UNCHECKED,
    "StudentT": _UNCHECKED,
    "LogitNormal": _UNCHECKED,
    "SinhArcsinh": _UNCHECKED,
    # The mode is 0 where the density there is NaN.
    "LogLogistic": _UNCHECKED | {"mode"},
    # The mean and variance are circular, the cdf begins at loc - pi, and the
    # density continues beyond pi.
    "VonMises": {
        "moments",
        "sample_moments",
        "sample_gradients",
        "cdf",
        "outside",
    },
    "Gamma": _XLOGY,
    "Chi2": _XLOGY,
    "Kumaraswamy": _XLOGY,
    # For 0.9 and 0.9, for example, the median is 0.659 in float32.
    "Beta": _XLOGY | {"quantile"},
    # One draw in some 30,000 is -inf.
    "Moyal": {"samples", "sample_moments"},
    # The mode of a density that is infinite at 0.
    "Weibull": _XLOGY | {"mode"},
    # The gradient of the choice between two roots is left out.
    "InverseGaussian": {"sample_gradients"},
    # A cdf may exceed 1 by a rounding; the complement has no logarithm.
    "Categorical": {"cdf"},
    # The bijector of the support does not reach all of it.
    "WishartTriL": {"normalization", "samples", "moments", "entropy"},
    # No cdf and no quantile in float16.
    "Normal(float16)": {"cdf", "quantile", "dtype", "broadcast"},
}
# On JAX with 64 bits switched on, constants of numpy turn float32 to float64.
_LEAKS = (
    "Laplace",
    "Gumbel",
    "Cauchy",
    "HalfNormal",
    "Moyal",
    "LogNormal",
    "Uniform",
    "Uniform(5, 6)",
    "VonMises",
    "InverseGaussian",
)
#: Only on JAX.
KNOWN_ON_JAX = {
    **{name: {"dtype"} for name in _LEAKS},
    # The mean cannot be traced.
    "Kumaraswamy": {"broadcast", "dtype"},
    # Outcomes beyond the last one get a probability, and the cdf can be neither
    # compiled nor traced for shapes and dtypes.
    "Categorical": {"outside", "cdf", "broadcast", "dtype"},
    # Their operators take no shape that is known only while tracing.
    "MultivariateStudentT": {"dtype"},
    "MatrixNormal": {"dtype", "jit", "sample_shapes"},
}
