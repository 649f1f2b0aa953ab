"""Losses and likelihoods, against Keras' losses, SciPy and NumPy."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from support import float64, gradients, numpy

from tfp_vae.layers import IndependentNormal
from tfp_vae.losses import (
    NegativeLogLikelihood,
    effective_beta,
    likelihood_from_loss,
)
from tfp_vae.substrate import jit, tfd

EPSILON = 1e-7  # Keras', which keeps its logarithms finite


def normal(loc: Any, scale: Any) -> tfd.Distribution:
    return tfd.Independent(tfd.Normal(loc, scale), 1)


@pytest.fixture
def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "y": rng.normal(size=(5, 3)).astype("float32"),
        "loc": rng.normal(size=(5, 3)).astype("float32"),
        "scale": rng.uniform(0.5, 2.0, (5, 3)).astype("float32"),
        "weight": rng.uniform(0.0, 3.0, 5).astype("float32"),
    }


def exact(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The loss of each example, [B]."""
    return -scipy.stats.norm.logpdf(
        batch["y"], batch["loc"], batch["scale"]
    ).sum(1)


class TestNegativeLogLikelihood:
    @pytest.mark.parametrize(
        ("reduction", "reduced"),
        [
            ("sum_over_batch_size", lambda loss, w: np.mean(loss * w)),
            ("mean", lambda loss, w: np.mean(loss * w)),
            (
                "mean_with_sample_weight",
                lambda loss, w: np.sum(loss * w) / np.sum(w),
            ),
            ("sum", lambda loss, w: np.sum(loss * w)),
            ("none", lambda loss, w: loss * w),
            (None, lambda loss, w: loss * w),
        ],
    )
    def test_reduces_as_keras_says(self, batch, reduction, reduced):
        loss = NegativeLogLikelihood(reduction)
        p = normal(batch["loc"], batch["scale"])
        each, w = exact(batch), batch["weight"]
        np.testing.assert_allclose(
            numpy(loss(batch["y"], p)), reduced(each, np.ones(5)), rtol=1e-5
        )
        for shape in (5,), (5, 1):
            found = numpy(loss(batch["y"], p, w.reshape(shape)))
            expected = reduced(each, w)
            # Without a reduction Keras returns the shape of the weights.
            np.testing.assert_allclose(
                found.reshape(expected.shape), expected, rtol=1e-5
            )

    def test_is_the_same_compiled(self, batch):
        loss = NegativeLogLikelihood()
        compiled = jit(lambda y, loc, s, w: loss(y, normal(loc, s), w))
        arguments = [ops.convert_to_tensor(array) for array in batch.values()]
        np.testing.assert_allclose(
            numpy(compiled(*arguments)),
            np.mean(exact(batch) * batch["weight"]),
            rtol=1e-5,
        )

    def test_has_the_gradient_of_the_density(self, batch):
        y, loc, scale, _ = batch.values()
        found = gradients(
            lambda loc, scale: NegativeLogLikelihood()(y, normal(loc, scale)),
            loc,
            scale,
        )
        r = (y.astype(float) - loc) / scale
        for gradient, slope in zip(found, (-r, 1 - r * r), strict=True):
            np.testing.assert_allclose(
                gradient, slope / scale / 5, rtol=1e-4, atol=1e-6
            )

    def test_keeps_double_precision(self, batch):
        with float64():
            wide = {k: v.astype("float64") for k, v in batch.items()}
            p = normal(wide["loc"], wide["scale"])
            found = NegativeLogLikelihood()(wide["y"], p)
            assert keras.backend.standardize_dtype(found.dtype) == "float64"
            assert float(found) == pytest.approx(exact(wide).mean(), rel=1e-14)

    def test_takes_integers(self):
        p = normal(np.zeros((2, 1), "float32"), 1.0)
        found = NegativeLogLikelihood()(np.array([[1], [3]], "int32"), p)
        expected = -scipy.stats.norm.logpdf([1.0, 3.0]).mean()
        assert float(found) == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize(
        ("y", "p", "error", "says"),
        [
            (np.zeros((2, 1)), np.zeros((2, 1)), TypeError, "end it in a dis"),
            (np.zeros((2, 4)), (2, 3, 1), ValueError, "event_shape=(4,)"),
            (np.zeros(2), (2, 1, 1), ValueError, "reshape the data to (1,)"),
            (np.zeros((2, 3)), (2, 3, 0), ValueError, "reinterpreted_batch_nd"),
            (np.zeros((4, 3)), (2, 3, 1), ValueError, "for 4 examples"),
            (np.zeros((2, 3), "float16"), (2, 3, 1), ValueError, "same dtype"),
            (None, (2, 3, 1), ValueError, "fit(x, x)"),
            (1.0, (2, 3, 1), ValueError, "Received: a scalar"),
        ],
    )
    def test_refuses_what_does_not_fit(self, y, p, error, says):
        if isinstance(p, tuple):
            *shape, ndims = p
            p = tfd.Independent(
                tfd.Normal(np.zeros(shape, "float32"), 1.0), ndims
            )
        if isinstance(y, np.ndarray) and y.dtype == np.float64:
            y = y.astype("float32")
        for loss in NegativeLogLikelihood(), NegativeLogLikelihood("none"):
            with pytest.raises(error) as caught:
                loss(y, p)
            assert says in str(caught.value)

    def test_goes_through_a_config(self):
        loss = NegativeLogLikelihood("sum", name="nll")
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert type(again) is NegativeLogLikelihood
        assert (again.reduction, again.name) == ("sum", "nll")


def linear_model() -> keras.Model:
    """y ~ Normal(w x, 1)."""
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(1, use_bias=False),
            IndependentNormal(1, scale=1.0),
        ]
    )


class TestInAModel:
    @pytest.fixture
    def data(self) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(2)
        x = rng.normal(size=(8, 2)).astype("float32")
        y = (x @ [[1.0], [-2.0]] + rng.normal(size=(8, 1))).astype("float32")
        return x, y, rng.uniform(0.0, 2.0, 8).astype("float32")

    @staticmethod
    def ready(model: keras.Model, data: tuple[np.ndarray, ...]) -> None:
        """What the docstring requires before `fit` on JAX."""
        x, y, _ = data
        model.compute_loss(y=y[:1], y_pred=model(x[:1]))

    @pytest.mark.parametrize("run_eagerly", [False, True])
    def test_trains_on_the_mean_of_the_likelihood(self, data, run_eagerly):
        x, y, weight = data
        model = linear_model()
        model.compile(
            keras.optimizers.SGD(0.1),
            loss=NegativeLogLikelihood(),
            run_eagerly=run_eagerly,
        )
        self.ready(model, data)
        w = model.get_weights()[0].astype("float64")
        each = -scipy.stats.norm.logpdf(y, x @ w).sum(1)
        # One step on all data; Keras reports the loss before it.
        history = model.fit(
            x, y, batch_size=8, sample_weight=weight, shuffle=False, verbose=0
        )
        assert history.history["loss"][0] == pytest.approx(
            np.mean(weight * each), rel=1e-5
        )
        w -= 0.1 * x.T @ (weight[:, None] * (x @ w - y)) / 8
        np.testing.assert_allclose(model.get_weights()[0], w, atol=1e-5)
        each = -scipy.stats.norm.logpdf(y, x @ w).sum(1)
        assert model.evaluate(x, y, verbose=0) == pytest.approx(
            each.mean(), rel=1e-5
        )

    def test_validates_and_loads(self, data, tmp_path):
        x, y, _ = data
        model = linear_model()
        model.compile("adam", loss=NegativeLogLikelihood())
        self.ready(model, data)
        history = model.fit(x, y, validation_data=(x, y), verbose=0)
        expected = model.evaluate(x, y, verbose=0)
        assert history.history["val_loss"] == pytest.approx([expected])
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        self.ready(again, data)
        assert again.evaluate(x, y, verbose=0) == pytest.approx(expected)


# Losses and their likelihoods.


def log_cosh(r: float) -> float:
    return abs(r) + math.log1p(math.exp(-2.0 * abs(r))) - math.log(2.0)


def huber(r: float, delta: float) -> float:
    size = abs(r)
    return r * r / 2 if size <= delta else delta * (size - delta / 2)


def logits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return 3.0 * rng.normal(size=shape)


def classes(values: np.ndarray) -> np.ndarray:
    return scipy.special.softmax(values, axis=-1)


def one_hot(
    rng: np.random.Generator, shape: tuple[int, ...], _: np.ndarray
) -> np.ndarray:
    return np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]


def labels(
    rng: np.random.Generator, shape: tuple[int, ...], _: np.ndarray
) -> np.ndarray:
    return rng.integers(0, shape[-1], shape[:-1]).astype("int32")


def near(
    rng: np.random.Generator, shape: tuple[int, ...], y_pred: np.ndarray
) -> np.ndarray:
    return y_pred + rng.standard_cauchy(shape).clip(-30, 30)


def bits(
    rng: np.random.Generator, shape: tuple[int, ...], _: np.ndarray
) -> np.ndarray:
    return rng.integers(0, 2, shape).astype("float64")


def counts(
    rng: np.random.Generator, shape: tuple[int, ...], y_pred: np.ndarray
) -> np.ndarray:
    return rng.poisson(y_pred).astype("float64")


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss, how to draw y_pred and y, and the constant of an element."""

    loss: Any
    instance: keras.losses.Loss
    draw_y: Callable[..., np.ndarray]
    to_prediction: Callable[[np.ndarray], np.ndarray] = lambda values: values
    has_classes: bool = False
    density: Callable[[float], float] | None = None
    constant: Callable[[np.ndarray], np.ndarray] | None = None


L = keras.losses
CASES = {
    "mse": Case(
        "mse",
        L.MeanSquaredError(reduction=None),
        near,
        density=lambda r: math.exp(-r * r),
    ),
    "mae": Case(
        "MeanAbsoluteError",
        L.MeanAbsoluteError(reduction=None),
        near,
        density=lambda r: math.exp(-abs(r)),
    ),
    "huber": Case(
        L.huber,
        L.Huber(reduction=None),
        near,
        density=lambda r: math.exp(-huber(r, 1.0)),
    ),
    "huber of 0.3": Case(
        L.Huber(delta=0.3),
        L.Huber(delta=0.3, reduction=None),
        near,
        density=lambda r: math.exp(-huber(r, 0.3)),
    ),
    "log_cosh": Case(
        "log_cosh",
        L.LogCosh(reduction=None),
        near,
        density=lambda r: math.exp(-log_cosh(r)),
    ),
    "binary": Case(
        "binary_crossentropy",
        L.BinaryCrossentropy(reduction=None),
        bits,
        scipy.special.expit,
        constant=np.zeros_like,
    ),
    "binary of logits": Case(
        L.BinaryCrossentropy(from_logits=True),
        L.BinaryCrossentropy(from_logits=True, reduction=None),
        bits,
        constant=np.zeros_like,
    ),
    "categorical": Case(
        "categorical_crossentropy",
        L.CategoricalCrossentropy(reduction=None),
        one_hot,
        classes,
        has_classes=True,
        constant=np.zeros_like,
    ),
    "categorical of logits": Case(
        L.CategoricalCrossentropy(from_logits=True),
        L.CategoricalCrossentropy(from_logits=True, reduction=None),
        one_hot,
        has_classes=True,
        constant=np.zeros_like,
    ),
    "sparse": Case(
        "sparse_categorical_crossentropy",
        L.SparseCategoricalCrossentropy(reduction=None),
        labels,
        classes,
        has_classes=True,
        constant=np.zeros_like,
    ),
    "sparse of logits": Case(
        L.SparseCategoricalCrossentropy(from_logits=True),
        L.SparseCategoricalCrossentropy(from_logits=True, reduction=None),
        labels,
        has_classes=True,
        constant=np.zeros_like,
    ),
    "poisson": Case(
        "poisson",
        L.Poisson(reduction=None),
        counts,
        lambda values: np.exp(values / 2),
        constant=lambda y: scipy.special.gammaln(y + 1.0) + EPSILON,
    ),
}
# One, since each is compiled separately. Classes are on the last axis.
SHAPE = (2, 2, 5)


@functools.cache
def log_mass(density: Callable[[float], float]) -> float:
    """The logarithm of an integral over the real line, by quadrature."""
    ends = (-60, -1), (-0.3, 0), (0, 0.3), (0.3, 1), (-1, -0.3), (1, 60)
    return math.log(
        math.fsum(
            scipy.integrate.quad(density, *pair, epsabs=1e-12)[0]
            for pair in ends
        )
    )


def constant_of(case: Case, y: np.ndarray) -> np.ndarray:
    """log Z of each element by SciPy's quadrature, or in closed form."""
    if case.constant is not None:
        return case.constant(y.astype("float64"))
    return np.full(y.shape, log_mass(case.density))


def over_event(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), -1).sum(1)


def loss_sum(case: Case, y: Any, y_pred: Any) -> Any:
    """Keras' loss summed over the event, [B]."""
    size = len(y_pred)
    if case.has_classes:
        return ops.sum(ops.reshape(case.instance(y, y_pred), (size, -1)), -1)
    width = math.prod(y_pred.shape[1:])
    flat = (size, width)
    return width * case.instance(
        ops.reshape(y, flat), ops.reshape(y_pred, flat)
    )


@functools.cache
def compiled(name: str) -> Callable[..., Any]:
    """(y, y_pred) to Keras' loss, minus the log density, and the constant."""
    case = CASES[name]
    likelihood = likelihood_from_loss(case.loss)

    def three(y: Any, y_pred: Any) -> tuple[Any, ...]:
        p = likelihood.distribution(y_pred)
        # The loss checks shapes and dtypes while it runs.
        ours = NegativeLogLikelihood("none")(y, p)
        return loss_sum(case, y, y_pred), ours, likelihood.constant(y)

    fast = jit(three)
    return lambda *arrays: map(numpy, fast(*map(ops.convert_to_tensor, arrays)))


class TestLikelihoodFromLoss:
    @pytest.mark.parametrize("name", CASES)
    @given(seed=st.integers(0, 2**32 - 1))
    def test_is_the_loss_plus_the_constant(self, name, seed):
        case, shape = CASES[name], SHAPE
        rng = np.random.default_rng(seed)
        y_pred = case.to_prediction(logits(rng, shape)).astype("float32")
        y = case.draw_y(rng, shape, y_pred.astype("float64"))
        y = y if y.dtype == np.int32 else y.astype("float32")
        keras_loss, ours, constant = compiled(name)(y, y_pred)
        each = constant_of(case, y)
        lacks = over_event(each)
        np.testing.assert_allclose(constant, lacks, rtol=1e-5, atol=1e-5)
        # For large counts, float32 terms of some thousand cancel.
        slack = 2e-5 + 5e-7 * over_event(np.abs(each))
        error = np.abs(ours - (keras_loss + lacks))
        assert (error <= slack + 2e-5 * np.abs(ours)).all()

    @pytest.mark.parametrize("name", CASES)
    def test_has_the_gradient_of_the_loss(self, name):
        case, shape = CASES[name], (4, 3)
        rng = np.random.default_rng(3)
        y_pred = case.to_prediction(logits(rng, shape)).astype("float32")
        y = case.draw_y(rng, shape, y_pred.astype("float64"))
        y = y if y.dtype == np.int32 else y.astype("float32")
        make = likelihood_from_loss(case.loss).distribution
        (ours,) = gradients(jit(lambda p: -make(p).log_prob(y)), y_pred)
        (theirs,) = gradients(jit(lambda p: loss_sum(case, y, p)), y_pred)
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

    def test_squared_error_is_a_gaussian_of_variance_one_half(self):
        p = likelihood_from_loss("mse").distribution(np.zeros((1, 2), "f4"))
        np.testing.assert_allclose(numpy(p.variance()), 0.5, rtol=1e-6)

    @pytest.mark.parametrize(
        ("name", "same"),
        [
            ("mse", ["MSE", L.mean_squared_error, L.MeanSquaredError]),
            ("mae", ["MAE", L.mean_absolute_error, L.MeanAbsoluteError("sum")]),
            ("huber", ["Huber", L.huber, L.Huber(reduction="none")]),
            ("bce", ["BinaryCrossentropy", L.binary_crossentropy]),
        ],
    )
    def test_takes_what_compile_takes(self, name, same):
        y = np.float32([[0.0, 1.0]])
        y_pred = np.float32([[0.25, 0.5]])
        expected = likelihood_from_loss(name).distribution(y_pred).log_prob(y)
        for loss in same:
            p = likelihood_from_loss(loss).distribution(y_pred)
            np.testing.assert_array_equal(numpy(p.log_prob(y)), numpy(expected))

    @pytest.mark.parametrize(
        ("loss", "event_ndims", "event"),
        [
            ("mse", None, (5, 3)),
            ("mse", 0, ()),
            ("mse", 1, (3,)),
            ("mse", 3, (2, 5, 3)),
            ("categorical_crossentropy", 1, (3,)),
            ("sparse_categorical_crossentropy", None, (5,)),
            ("sparse_categorical_crossentropy", 0, ()),
        ],
    )
    def test_has_the_event_asked_for(self, loss, event_ndims, event):
        likelihood = likelihood_from_loss(loss, event_ndims)
        p = likelihood.distribution(np.full((2, 5, 3), 1 / 3, "float32"))
        shape = (2, 5) if loss.startswith("sparse") else (2, 5, 3)
        assert tuple(p.event_shape) == event
        assert tuple(p.batch_shape) == shape[: len(shape) - len(event)]
        constant = likelihood.constant(np.ones(shape, "int32"))
        assert tuple(constant.shape) == tuple(p.batch_shape)

    @pytest.mark.parametrize(
        ("loss", "event_ndims", "shape"),
        [
            ("mse", None, ()),
            ("mse", 2, (3,)),
            ("categorical_crossentropy", None, (3,)),
            ("categorical_crossentropy", 0, (2, 3)),
        ],
    )
    def test_refuses_too_few_dimensions(self, loss, event_ndims, shape):
        likelihood = likelihood_from_loss(loss, event_ndims)
        for function in likelihood:
            with pytest.raises(ValueError, match="change event_ndims"):
                function(np.ones(shape, "float32"))

    @pytest.mark.parametrize("event_ndims", [-1, 1.0, True, "all"])
    def test_refuses_no_number_of_dimensions(self, event_ndims):
        with pytest.raises(ValueError, match="an int >= 0"):
            likelihood_from_loss("mse", event_ndims)

    @pytest.mark.parametrize(
        ("loss", "reason"),
        [
            ("kl_divergence", 'entropy.*Take "categorical_crossentropy"'),
            (L.KLDivergence(), "no outcome"),
            ("mape", 'no finite integral. Take "mae" of log y'),
            ("msle", r'depends on y_pred.*"mse" of log\(1 \+ y\)'),
            ("cosine_similarity", "VonMisesFisher"),
            ("hinge", "depends on y_pred"),
            ("squared_hinge", "binary_crossentropy"),
            (L.CategoricalHinge(), "categorical_crossentropy"),
            (L.BinaryFocalCrossentropy(), "depends on y_pred"),
            ("categorical_focal_crossentropy", "depends on y_pred"),
            (L.CTC(), "no sum"),
            ("dice", "no sum"),
            ("tversky", "no sum"),
            ("circle", "no sum"),
            (lambda y, y_pred: 0.0, "Gibbs"),
            (L.BinaryCrossentropy(label_smoothing=0.1), "Smooth the targets"),
            (L.CategoricalCrossentropy(label_smoothing=0.1), "label_smoothing"),
            (L.SparseCategoricalCrossentropy(ignore_class=0), "tfd.Masked"),
            (L.CategoricalCrossentropy(axis=1), "moveaxis"),
            (L.Huber(delta=0.0), "0.0"),
            (L.Huber(delta=math.inf), 'inf.*"mse"'),
        ],
    )
    def test_refuses_what_has_no_likelihood(self, loss, reason):
        with pytest.raises(ValueError, match=f"Received: .*{reason}"):
            likelihood_from_loss(loss)

    def test_refuses_a_subclass(self):
        class Doubled(L.MeanSquaredError):
            def call(self, y_true, y_pred):
                return 2.0 * super().call(y_true, y_pred)

        with pytest.raises(ValueError, match="Gibbs"):
            likelihood_from_loss(Doubled())

    @pytest.mark.parametrize("loss", [None, "logcosh", 3, ["mse"]])
    def test_refuses_no_loss(self, loss):
        with pytest.raises(TypeError, match="A loss is a name that Keras"):
            likelihood_from_loss(loss)


class TestEffectiveBeta:
    @pytest.mark.parametrize(
        ("arguments", "beta"),
        [
            ({}, 784 / 2),
            ({"kl": "sum"}, 784.0),
            ({"reconstruction": "sum"}, 1 / 2),
            ({"reconstruction": "sum", "kl": "sum"}, 1.0),
            ({"kl": "sum", "reconstruction_weight": 784}, 1.0),
            ({"kl": "sum", "kl_weight": 1 / 784}, 1.0),
            ({"kl_weight": 0}, 0.0),
            ({"data_size": np.int64(32)}, 16.0),
        ],
    )
    def test_of_known_losses(self, arguments, beta):
        arguments = {"data_size": 784, "latent_size": 2, **arguments}
        assert effective_beta(**arguments) == pytest.approx(beta, rel=1e-15)

    @given(
        data=st.integers(1, 50),
        latent=st.integers(1, 50),
        how=st.tuples(*[st.sampled_from(["mean", "sum"])] * 2),
        weights=st.tuples(*[st.floats(1e-3, 1e3)] * 2),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_makes_a_loss_proportional(self, data, latent, how, weights, seed):
        """loss = a (sum + beta sum), with one a for all terms."""
        rng = np.random.default_rng(seed)
        reduce = {"mean": np.mean, "sum": np.sum}
        beta = effective_beta(
            data, latent, *how, weights[0], kl_weight=weights[1]
        )
        ratios = []
        for _ in range(2):
            r, k = rng.exponential(size=data), rng.exponential(size=latent)
            loss = weights[0] * reduce[how[0]](r)
            loss += weights[1] * reduce[how[1]](k)
            ratios.append(loss / (r.sum() + beta * k.sum()))
        assert ratios[0] == pytest.approx(ratios[1], rel=1e-12)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"data_size": 0}, "data_size=0. Of a shape take math.prod"),
            ({"data_size": (28, 28)}, "data_size=(28, 28)"),
            ({"latent_size": 2.0}, "latent_size=2.0"),
            ({"latent_size": True}, "latent_size=True"),
            ({"kl": "max"}, "kl='max'. Another factor belongs into kl_weight"),
            ({"reconstruction": None}, "reconstruction=None"),
            ({"reconstruction_weight": 0.0}, "reconstruction_weight=0.0"),
            ({"reconstruction_weight": math.nan}, "reconstruction_weight=nan"),
            ({"kl_weight": -1.0}, "kl_weight=-1.0. For a schedule"),
            ({"kl_weight": math.inf}, "kl_weight=inf"),
            ({"kl_weight": lambda step: step}, "kl_weight=<function"),
        ],
    )
    def test_refuses(self, arguments, says):
        with pytest.raises(ValueError, match=re.escape(says)):
            effective_beta(**{"data_size": 784, "latent_size": 2, **arguments})
