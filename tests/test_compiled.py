"""Functions of a model are compiled once, and never used when out of date."""

import copy
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import ops
from support import numpy

from tfp_vae import VAE, evaluation, layers
from tfp_vae.evaluation import compiled as module
from tfp_vae.evaluation.compiled import compiled
from tfp_vae.substrate import tfd

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


class Decoder(keras.layers.Layer):
    """Multiplies by a plain attribute."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4)
        self.head = layers.IndependentNormal(4, scale=1.0)
        self.factor = 1.0

    def call(self, z):
        return self.head(self.factor * self.dense(z))


def encoder():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(4),
            layers.MultivariateNormalDiag(2),
        ]
    )


class WithSpare(VAE):
    """Has another encoder: Keras adds no new layer to a built model."""

    def __init__(self, *args):
        super().__init__(*args)
        self.spare = encoder()


@pytest.fixture
def vae():
    model = VAE(encoder(), Decoder())
    model(X)
    return model


def estimate(model, x=X, num_samples=3):
    return model.marginal_log_likelihood(x, num_samples, seed=0).log_likelihood


@pytest.fixture
def traces(monkeypatch):
    """How often a function was compiled again."""
    found = []
    for name in ("jit", "jit_with_variables"):
        original = getattr(module, name)

        def counting(function, *args, original=original):
            def counted(*tensors):
                found.append(1)
                return function(*tensors)

            return original(counted, *args)

        monkeypatch.setattr(module, name, counting)
    return found


# Two steps are too few for good estimates, but enough for a trace.
@pytest.mark.filterwarnings("ignore:An estimate of log p")
def test_the_second_call_traces_nothing(vae, traces):
    functions = [
        estimate,
        evaluation.kl_per_dimension,
        evaluation.aggregate_posterior,
        lambda vae, x: evaluation.annealed_importance_sampling(
            vae, x, num_steps=2, num_chains=2
        ),
    ]
    for function in functions:
        function(vae, X)
        once = len(traces)
        assert once > 0
        function(vae, X)
        assert len(traces) == once
        traces.clear()


def test_training_in_between_is_seen(vae, traces):
    vae.compile(keras.optimizers.SGD(0.1))
    before = estimate(vae)
    vae.fit(X, epochs=2, verbose=0)
    after = estimate(vae)
    assert len(traces) == 1
    # The same weights in another model.
    fresh = VAE(encoder(), Decoder())
    fresh(X)
    fresh.set_weights(vae.get_weights())
    np.testing.assert_allclose(after, estimate(fresh), rtol=1e-6)
    assert abs(after - before).min() > 1e-3


def test_another_model_is_compiled_anew():
    vae = WithSpare(encoder(), Decoder())

    def is_found():
        """Whether the estimate is that of a newly compiled function."""
        found = estimate(vae)
        module.forget(vae)
        np.testing.assert_array_equal(found, estimate(vae))
        return found

    seen = [is_found()]
    vae.decoder.factor = 2.0
    seen.append(is_found())
    vae.encoder, vae.spare = vae.spare, vae.encoder
    seen.append(is_found())
    vae.prior = tfd.MultivariateNormalDiag([1.0, 1.0])
    seen.append(is_found())
    seen.append(estimate(vae, num_samples=4))
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert (one != other).any()


def test_few_functions_are_kept(vae, monkeypatch):
    monkeypatch.setattr(module, "_LIMIT", 2)
    for samples in (1, 2, 3):
        estimate(vae, num_samples=samples)
    kept = module._KEPT[vae].functions
    assert [samples for _, samples in kept] == [2, 3]


def test_copies_and_files_are_without_them(tmp_path):
    decoder = keras.Sequential(
        [keras.layers.Dense(4), layers.IndependentNormal(4, scale=1.0)]
    )
    vae = VAE(encoder(), decoder)
    found = estimate(vae)
    vae.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for other in (loaded, copy.deepcopy(vae)):
        assert other not in module._KEPT
        np.testing.assert_allclose(estimate(other), found, rtol=1e-6)


def test_no_model_is_kept_alive(vae):
    held = VAE(vae.encoder, vae.decoder)
    estimate(held)
    weak = weakref.ref(held)
    assert held in module._KEPT
    del held
    gc.collect()
    assert weak() is None


def test_a_model_of_another_class_may_change_unseen(vae):
    class Own:
        def __init__(self, shift):
            self.shift = shift

        def encode(self, x):
            return vae.encode(x + self.shift)

        decode = vae.decode
        prior_distribution = vae.prior_distribution

    own = Own(0.0)

    def found():
        return evaluation.marginal_log_likelihood(own, X, 3, seed=0)[0]

    np.testing.assert_allclose(found(), estimate(vae), rtol=1e-6)
    own.shift = 1.0
    assert (found() != estimate(vae)).all()


def test_variables_that_are_assigned_move_on():
    """Noise inside a model differs at each call, as in Keras."""

    class Noisy(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(0)

        def call(self, x):
            return x + keras.random.normal((2,), seed=self.seed)

    noisy = Noisy()
    run = compiled(Noisy.__call__, noisy)
    first, second = (numpy(run(np.zeros(2, "float32"))) for _ in range(2))
    assert (first != second).all()


class Reads(keras.layers.Layer):
    """Has plain attributes."""

    def __init__(self, value):
        super().__init__()
        self.value = value


def value_of(model, x):
    return x + ops.sum(ops.convert_to_tensor(model.value, "float32"))


@pytest.mark.parametrize(
    "make",
    [
        np.int64,
        np.float32,
        lambda v: ops.convert_to_tensor(float(v)),
        lambda v: (float(v), 0.0),
        lambda v: [0.0, float(v)],
        lambda v: [ops.convert_to_tensor(float(v))],
    ],
    ids=["int64", "float32", "tensor", "tuple", "list", "tensors"],
)
def test_attributes_of_every_kind_are_seen(make, traces):
    model = Reads(make(1))
    x = ops.zeros(())
    assert float(compiled(value_of, model)(x)) == 1.0
    assert float(compiled(value_of, model)(x)) == 1.0
    assert len(traces) == 1
    model.value = make(9)
    assert float(compiled(value_of, model)(x)) == 9.0


def nested(model, x):
    return x + model.value["a"][0]


def test_a_change_within_a_dict_is_seen():
    model = Reads({"a": (1.0,)})
    assert float(compiled(nested, model)(ops.zeros(()))) == 1.0
    model.value["a"] = (9.0,)
    assert float(compiled(nested, model)(ops.zeros(()))) == 9.0


def times(model, factor, x):
    return factor * x


def test_many_functions_are_no_retracing(caplog):
    model = Reads(1.0)
    for factor in range(8):
        compiled(times, model, factor)(ops.ones(()))
    assert "retracing" not in caplog.text
