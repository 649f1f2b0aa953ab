"""One bad value is found anywhere, and the error names its place."""

import warnings

import keras
import numpy as np
import pytest
import scipy.sparse

from tfp_vae import VAE, evaluation, layers

N = 400


def vae(head, shape, params):
    model = VAE(
        keras.Sequential(
            [
                keras.Input(shape),
                keras.layers.Flatten(),
                # Small weights: no value of the tests overflows.
                keras.layers.Dense(4, kernel_initializer="zeros"),
                layers.MultivariateNormalDiag(2),
            ]
        ),
        keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(params, kernel_initializer="zeros"),
                head,
            ]
        ),
        seed=1,
    )
    model.compile("sgd")
    return model


def table():
    """A model, and rows of a normal, a Bernoulli, a class, a count, a 1-hot."""
    random = np.random.default_rng(0)
    blocks = [
        layers.IndependentNormal(1),
        layers.IndependentBernoulli(1),
        layers.IndependentCategorical(1, 3),
        layers.IndependentPoisson(1),
        layers.OneHotCategorical(3),
    ]
    x = np.concatenate(
        [
            30 * random.normal(size=(N, 1)),
            random.integers(0, 2, (N, 1)),
            random.integers(0, 3, (N, 1)),
            random.poisson(3, (N, 1)),
            np.eye(3)[random.integers(0, 3, N)],
        ],
        axis=1,
    ).astype("float32")
    head = layers.Composite(blocks)
    return vae(head, (7,), layers.Composite.params_size(blocks)), x


@pytest.mark.parametrize(
    ("column", "value"),
    [(1, 2.0), (1, -1.0), (2, 3.0), (2, -1.0), (3, -1.0)],
)
def test_one_bad_cell_of_a_table(column, value):
    model, x = table()
    x[77, column] = value
    place = rf"row 77, column {column} \({value}\)"
    with pytest.raises(ValueError, match=rf"support.*{place}"):
        model.fit(x, verbose=0)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_rows_are_enough(rows):
    model, x = table()
    model.check_data(x[:rows])
    found = model.marginal_log_likelihood(x[:rows], num_samples=2, seed=0)
    assert np.isfinite(found.log_likelihood).all()


def test_a_good_table_passes():
    model, x = table()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.check_data(x)


@pytest.mark.parametrize("made", ["alone", "table"])
def test_a_one_hot_row_of_zeros(made):
    if made == "table":
        model, x = table()
        x[77, 4:] = 0.0
        place = r"row 77, columns \[4, 5, 6\]"
    else:
        model = vae(layers.OneHotCategorical(3), (3,), 3)
        x = np.eye(3, dtype="float32")[np.arange(N) % 3]
        x[77] = 0.0
        place = "row 77 of"
    with pytest.raises(ValueError, match=place):
        model.fit(x, verbose=0)


@pytest.mark.parametrize("made", ["image", "table"])
def test_one_grey_value_is_warned_of(made):
    if made == "table":
        model, x = table()
        x[77, 1] = 0.5
    else:
        model = vae(layers.IndependentBernoulli((4, 4)), (4, 4), 16)
        x = (np.arange(N * 16).reshape(N, 4, 4) % 3 == 0).astype("float32")
        x[77, 2, 3] = 0.5
    with pytest.warns(UserWarning, match="whole numbers as outcomes"):
        model.check_data(x)


def test_the_index_of_a_pixel_is_said():
    model = vae(layers.IndependentBernoulli((4, 4)), (4, 4), 16)
    x = np.zeros((N, 4, 4), "float32")
    x[77, 2, 3] = 2.0
    with pytest.raises(ValueError, match=r"row 77, index \(2, 3\) \(2\.0\)"):
        model.fit(x, verbose=0)


def test_a_sure_likelihood_of_another_row_refuses_nothing():
    from tfp_vae.substrate import tfd

    # The probabilities are the latents, and the latents are the data.
    encoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(4, kernel_initializer="zeros"),
            layers.MultivariateNormalDiag(2),
        ]
    )
    encoder.layers[0].kernel.assign([[1e3, 0, 0, 0], [0, 1e3, 0, 0]])
    encoder.layers[0].bias.assign([-500.0, -500.0, 0.0, 0.0])
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            layers.DistributionLambda(
                lambda z: tfd.Independent(
                    tfd.Bernoulli(probs=keras.ops.cast(z > 0, "float32")), 1
                )
            ),
        ]
    )
    model = VAE(encoder, decoder, seed=1)
    x = np.random.default_rng(0).integers(0, 2, (N, 2)).astype("float32")
    x[:2] = [[0, 1], [1, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.check_data(x)


# Where a warning points.


def grey():
    model = vae(layers.IndependentBernoulli(3), (3,), 3)
    x = np.random.default_rng(0).integers(0, 2, (16, 3)).astype("float32")
    return model, x, 0.5 * x


WAYS = {
    "fit": lambda model, x, bad: model.fit(bad, verbose=0),
    "validation": lambda model, x, bad: model.fit(
        x, validation_data=bad, verbose=0
    ),
    "validation tuple": lambda model, x, bad: model.fit(
        x, validation_data=(bad, bad), verbose=0
    ),
    "evaluate": lambda model, x, bad: model.evaluate(bad, verbose=0),
    "evaluation": lambda model, x, bad: evaluation.rate_distortion(
        model, bad, num_samples=2
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_warning_points_at_the_caller(way):
    model, x, bad = grey()
    with pytest.warns(UserWarning, match="whole numbers") as record:
        WAYS[way](model, x, bad)
    (found,) = [r for r in record if "whole numbers" in str(r.message)]
    assert found.filename == __file__


# Data that are not arrays of numbers.


@pytest.mark.parametrize(
    ("spoil", "way_out"),
    [
        (lambda x: x.tolist(), r"np\.asarray\(x\)"),
        (scipy.sparse.csr_matrix, r"x\.toarray\(\)"),
        (lambda x: x.astype(str), r"numbers.*astype"),
        (lambda x: x.astype(object), r"numbers.*astype"),
    ],
    ids=["list", "sparse", "strings", "objects"],
)
def test_what_is_no_array_of_numbers(spoil, way_out):
    model = vae(layers.IndependentNormal(3), (3,), 6)
    x = np.zeros((8, 3), "float32")
    with pytest.raises(TypeError, match=way_out):
        model.fit(spoil(x), verbose=0)
    with pytest.raises(TypeError, match=way_out.replace("x", "y")):
        model.fit(x, spoil(x), verbose=0)


def levels(dtype):
    return np.random.default_rng(0).integers(0, 256, (16, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_large_integers_are_warned_of_once(dtype):
    model = vae(layers.IndependentNormal(3), (3,), 6)
    with pytest.warns(UserWarning, match=r"x / 255"):
        model.evaluate(levels(dtype), verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.evaluate(levels(dtype), verbose=0)


@pytest.mark.parametrize(
    ("head", "params", "x"),
    [
        (layers.IndependentNormal(3), 6, levels("float32")),
        (layers.IndependentNormal(3), 6, levels("int32") // 3),
        (layers.IndependentPoisson(3), 3, levels("int32")),
        (layers.DiscretizedLogistic(3), 6, levels("int32")),
    ],
    ids=["floats", "small", "counts", "discretised"],
)
def test_other_data_are_not_warned_of(head, params, x):
    model = vae(head, (3,), params)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.evaluate(x, verbose=0)


def test_weights_of_zero_alone_are_refused():
    model = vae(layers.IndependentNormal(3), (3,), 6)
    x = np.zeros((8, 3), "float32")
    for call in (
        lambda: model.fit(x, sample_weight=np.zeros(8), verbose=0),
        lambda: model.fit(x, validation_data=(x, x, np.zeros(8)), verbose=0),
        lambda: model.evaluate(x, sample_weight=np.zeros(8), verbose=0),
    ):
        with pytest.raises(ValueError, match="above 0.*zeros alone"):
            call()
