"""DataFrames to arrays and back; the likelihood that a table makes."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from support import numpy, sample

from tfp_vae import VAE, layers
from tfp_vae.tables import Column, TableEncoder

pd = pytest.importorskip("pandas")

RNG = np.random.default_rng(0)
N = 60


def frame(rows=N):
    """A column of each kind, and in each notation."""
    rng = np.random.default_rng(0)
    df = pd.DataFrame(
        {
            "height": rng.normal(170, 9, rows),
            "age": rng.integers(18, 90, rows),
            "visits": rng.poisson(2, rows).astype("int16"),
            "ward": rng.integers(1, 5, rows),
            "smokes": rng.random(rows) < 0.3,
            "sex": rng.choice(["f", "m"], rows),
            "drug": pd.Categorical(
                rng.choice(["a", "b"], rows), ["c", "b", "a"], ordered=True
            ),
            "clinic": "north",
            "tested": pd.array(rng.random(rows) < 0.5, dtype="boolean"),
            "children": pd.array(rng.integers(0, 4, rows), dtype="Int64"),
        }
    )
    df.loc[0, "height"] = np.nan
    df.loc[1, ["tested", "children"]] = pd.NA
    df.loc[2, ["drug", "sex"]] = None
    return df


@pytest.fixture(scope="module")
def table():
    return TableEncoder.from_dataframe(frame(), verbose=False)


KINDS = {
    "height": "continuous",
    "age": "continuous",
    "visits": "count",
    "ward": "categorical",
    "smokes": "binary",
    "sex": "binary",
    "drug": "categorical",
    "clinic": "constant",
    "tested": "binary",
    "children": "count",
}


def test_what_it_guesses_is_shown(table, capsys):
    assert {c.name: c.kind for c in table.columns} == KINDS
    TableEncoder.from_dataframe(frame())
    out = capsys.readouterr().out
    for words in (
        "ward      categorical ?",
        "4 classes: 1, 2, 3, 4",
        "children  count ?",
        "left out, always 'north'",
        "3 classes: 'c', 'b', 'a'",
        '? may be wrong: say it, kinds={"column": "kind"}',
    ):
        assert words in out
    TableEncoder.from_dataframe(frame(), kinds=KINDS)
    assert not capsys.readouterr().out  # nothing was guessed


def test_numbers_are_what_they_are_said_to_be(table):
    df = frame()
    x = table.transform(df)["x"]
    assert x.shape == (N, table.width)
    assert x.dtype == np.float32
    names = [c.name for c in table.encoded]
    by_name = dict(zip(names, x.T, strict=True))
    height = df["height"].to_numpy()
    standard = (height - np.nanmean(height)) / np.nanstd(height)
    np.testing.assert_allclose(by_name["height"], standard, rtol=1e-5)
    np.testing.assert_array_equal(by_name["visits"], df["visits"])
    np.testing.assert_array_equal(by_name["ward"], df["ward"] - 1)
    np.testing.assert_array_equal(by_name["smokes"], df["smokes"])
    drug = df["drug"].map({"c": 0, "b": 1, "a": 2}).astype("float64")
    np.testing.assert_array_equal(by_name["drug"], drug)
    gaps = [(names[j], i) for i, j in np.argwhere(np.isnan(x))]
    assert gaps == [
        ("height", 0),
        ("tested", 1),
        ("children", 1),
        ("sex", 2),
        ("drug", 2),
    ]


def test_and_back(table):
    df = frame()
    x = table.transform(df)
    back = table.inverse_transform(x)
    # In float32, except for whole numbers.
    pd.testing.assert_frame_equal(back, df, rtol=1e-6)
    whole = table.inverse_transform(np.nan_to_num(x["x"]))
    assert (whole.dtypes == df.dtypes).all()
    filled = table.inverse_transform(
        np.nan_to_num(x["x"]), original=df.set_index(df.index + 100)
    )
    assert filled.index[0] == 100
    assert not filled.isna().any().any()
    seen = df.notna()
    for name in df:  # to the last bit
        kept = filled[name].to_numpy(object)[seen[name]]
        assert (kept == df[name].to_numpy(object)[seen[name]]).all()
    draws = table.inverse_transform(np.stack([x["x"]] * 2), original=df)
    assert draws.index.names[0] == "draw"
    pd.testing.assert_frame_equal(draws.loc[1], df, check_names=False)


@given(
    data=st.lists(
        st.one_of(st.none(), st.integers(-(10**6), 10**6)),
        min_size=2,
        max_size=20,
    ).filter(lambda v: len({x for x in v if x is not None}) > 1)
)
def test_whole_numbers_with_gaps_come_back(data):
    # For numbers up to a million, float32 has an error below 1/2.
    df = pd.DataFrame({"a": pd.array(data, dtype="Int64")})
    table = TableEncoder.from_dataframe(df, verbose=False)
    back = table.inverse_transform(table.transform(df))
    pd.testing.assert_frame_equal(back, df)


def test_means_and_wild_draws_come_back_as_outcomes(table):
    names = [c.name for c in table.encoded]
    x = np.full((1, table.width), 1.4)
    x[0, [names.index("drug"), names.index("ward")]] = 9.0, 1.0
    row = table.inverse_transform(x).iloc[0]
    assert [row["visits"], row["ward"], row["drug"]] == [1, 2, "a"]
    x[0, names.index("ward")] = 1.4
    with pytest.raises(ValueError, match="a mean of them is no class"):
        table.inverse_transform(x)
    assert row["smokes"] is np.True_
    assert row["age"] == round(row["age"])
    small = TableEncoder.from_dataframe(
        pd.DataFrame({"a": np.array([-100, 100, 3], "int8")}), verbose=False
    )
    assert small.inverse_transform(np.float32([[99.0]])).iloc[0, 0] == 127


@pytest.mark.parametrize(
    ("dtype", "largest"),
    # The largest float that 64-bit integers hold.
    [
        ("int16", 2**15 - 1),
        ("UInt8", 255),
        ("int64", 2**63 - 2**10),
        ("Int64", 2**63 - 2**10),
        ("uint64", 2**64 - 2**11),
    ],
)
@pytest.mark.parametrize(
    ("kind", "least"), [("positive", 1), ("count", 0), ("continuous", None)]
)
def test_wild_draws_of_integers_stay_in_their_dtype(
    dtype, largest, kind, least
):
    df = pd.DataFrame({"a": pd.Series([1, 9, 90], dtype=dtype)})
    table = TableEncoder.from_dataframe(df, {"a": kind}, verbose=False)
    wild = -50.0 if kind == "positive" else -1e25
    back = table.inverse_transform(np.array([[wild], [-wild]]))
    assert back["a"].dtype == dtype
    if least is None:
        least = 0 if dtype.lower().startswith("u") else None
    if least is not None:
        assert back["a"][0] == least
    assert back["a"][1] == largest


def test_cells_of_the_original_are_not_touched():
    big = [2**60 + 1, 5, None]
    df = pd.DataFrame(
        {"a": pd.array(big, dtype="Int64"), "b": [1, 1, 1]}, index=[*"xyz"]
    )
    table = TableEncoder.from_dataframe(df, {"a": "count"}, verbose=False)
    # A constant column may be absent, as in `transform`.
    only = df[["a"]]
    x = np.nan_to_num(table.transform(only)["x"], nan=3.0)
    back = table.inverse_transform(x, original=only)
    assert back["a"].tolist() == [2**60 + 1, 5, 3]
    assert back["b"].tolist() == [1, 1, 1]
    assert back.index.tolist() == [*"xyz"]


def test_infinity_is_no_class():
    for values in ([1.0, 2.0, np.inf], [1.0, np.inf], [-np.inf, np.inf]):
        with pytest.raises(ValueError, match="are finite"):
            TableEncoder.from_dataframe(
                pd.DataFrame({"a": values * 10}), verbose=False
            )


def test_columns_are_found_by_name(table):
    df = frame()
    other = df[df.columns[::-1]]
    np.testing.assert_array_equal(
        table.transform(other)["x"], table.transform(df)["x"]
    )
    with pytest.warns(UserWarning, match="left out. Received: 'new'"):
        table.transform(df.assign(new=1))
    with pytest.raises(ValueError, match=r"none called 'age', 'sex'.*np.nan"):
        table.transform(df.drop(columns=["sex", "age"]))
    # A constant column is not needed.
    table.transform(df.drop(columns="clinic"))


def test_what_was_never_seen(table):
    df = frame().assign(sex="x", clinic="south")
    with pytest.raises(ValueError, match=r"'sex' has the cat.*Received: 'x'"):
        table.transform(df.assign(clinic="north"))
    with pytest.raises(ValueError, match="was 'north' in all rows"):
        table.transform(df.assign(sex="f"))
    x = table.transform(df, unseen="missing")["x"]
    assert np.isnan(x).all(0).sum() == 1
    kept = table.inverse_transform(np.nan_to_num(x), original=df)
    assert (kept["sex"] == "x").all()
    with pytest.raises(ValueError, match="unseen is one of"):
        table.transform(df, unseen="ignore")


def column(values, kind=None, **options):
    df = pd.DataFrame({"a": pd.Series(values, **options), "b": [0.5, 1.0, 2.0]})
    return TableEncoder.from_dataframe(
        df, kinds=None if kind is None else {"a": kind}, verbose=False
    ).columns[0]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([None, None, None], None, ("constant", None)),
        ([7, 7, np.nan], None, ("constant", None)),
        ([True, False, None], None, ("binary", (False, True))),
        ([True, True, True], "binary", ("binary", (False, True))),
        ([0, 0, 0], "binary", ("binary", (0, 1))),
        ([2, 5, 2], None, ("binary", (2, 5))),
        (["x", "y", "z"], ["z", "y", "x"], ("categorical", ("z", "y", "x"))),
        ([101, 205, 307], None, ("categorical", (101, 205, 307))),
        ([0, 1, 5000], None, ("continuous", None)),
        ([-1, 0, 3], None, ("continuous", None)),
        ([0.01, 5.0, 700.0], "positive", ("positive", None)),
        ([0, 0, 0], "count", ("count", None)),
        (["a", "b", "c"], "drop", ("drop", None)),
    ],
)
def test_kinds(values, kind, expected):
    found = column(values, kind)
    assert (found.kind, found.categories) == expected


@pytest.mark.parametrize(
    ("values", "kind", "error", "words"),
    [
        (pd.date_range("2020", periods=3), None, TypeError, r"dt\.days"),
        (pd.to_timedelta([1, 2, 3], "D"), None, TypeError, r"drop"),
        (pd.cut([1, 5, 9], 3), None, TypeError, "astype"),
        ([1, 2, "?"], None, TypeError, r'replace\("\?", np.nan\)'),
        ([[1], [2], [3]], None, TypeError, "list in column 'a'"),
        ([1.0, np.inf, 2.5], None, ValueError, "are finite. Received: inf"),
        ([0.0, 1.5, 2.5], "positive", ValueError, "greater than 0"),
        ([0.0, 1.5, -2], "count", ValueError, r"Received: 1.5, -2.0"),
        ([3.0, 3.0, 3.0], "continuous", ValueError, "constant"),
        ([None] * 3, "continuous", ValueError, "nothing observed"),
        ([None] * 3, "categorical", ValueError, "none"),
        (["x", "y", "z"], "count", ValueError, "are numbers. Received: 'x'"),
        (["x", "y", "z"], "binary", ValueError, "two different categories"),
        (["x", "y", "z"], ["x", "y", "w"], ValueError, "Received: 'z'"),
        (["x", "y", "z"], "constant", ValueError, "has one value"),
        ([1, 2, 3], "gaussian", ValueError, "is one of"),
    ],
)
def test_what_no_kind_fits_is_refused(values, kind, error, words):
    with pytest.raises(error, match=words):
        column(values, kind)


def test_tables_that_are_none():
    with pytest.raises(ValueError, match="30 different values in the 30"):
        TableEncoder.from_dataframe(
            pd.DataFrame({"id": [f"p{i}" for i in range(30)]})
        )
    for df, error, words in (
        (np.zeros((3, 2)), TypeError, "is a pandas.DataFrame"),
        (pd.DataFrame({"a": []}), ValueError, "has rows"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "twice: 'a'"),
        (pd.DataFrame({"a": [1, 1]}), ValueError, "one column or more"),
        (pd.DataFrame({("a", 1): [1, 2]}), TypeError, "a string or an int"),
    ):
        with pytest.raises(error, match=words):
            TableEncoder.from_dataframe(df, verbose=False)
    with pytest.raises(ValueError, match="names columns of.*'agee'"):
        TableEncoder.from_dataframe(frame(), {"agee": "count"})
    with pytest.raises(ValueError, match="data of this table"):
        TableEncoder({"a": "count"}).inverse_transform(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="of 3 rows. Received: 2 rows"):
        TableEncoder({"a": "count"}).inverse_transform(
            np.zeros((3, 1)), pd.DataFrame({"a": [1, 2]})
        )


GIVEN = {
    "age": "continuous",
    "ward": ["a", "b", "c"],
    "income": "positive",
    "smokes": "binary",
    "visits": "count",
}


def test_the_likelihood_is_that_of_each_column():
    head = layers.Composite.from_columns(
        GIVEN,
        continuous="huber",
        count="poisson",
        likelihoods={"income": layers.IndependentNormal},
    )
    params = RNG.normal(size=(1, head.num_parameters)).astype("float32")
    likelihood = head(params)
    x = np.float32([[0.3, 2.0, -1.5, 1.0, 4.0]])
    found = numpy(likelihood.log_prob_by_column(x))[0]
    p = params[0].astype("float64")
    softplus = np.logaddexp(0, p)
    # Blocks in the order of their first columns: Huber, three classes, Normal,
    # Bernoulli, Poisson.
    r = abs(x[0, 0] - p[0]) / (softplus[1] + 0.01)
    z = np.sqrt(2 * np.pi) * scipy.special.erf(0.5**0.5) + 2 * np.exp(-0.5)
    exact = [
        -np.where(r < 1, r**2 / 2, r - 0.5)
        - np.log(softplus[1] + 0.01)
        - np.log(z),
        scipy.special.log_softmax(p[2:5])[2],
        scipy.stats.norm.logpdf(-1.5, p[5], softplus[6] + 1e-6),
        -np.logaddexp(0, -p[7]),
        scipy.stats.poisson.logpmf(4, np.exp(p[8])),
    ]
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    np.testing.assert_allclose(
        numpy(likelihood.log_prob(x)), [sum(exact)], rtol=1e-5
    )


def test_columns_of_one_likelihood_share_a_block(table):
    head = layers.Composite.from_columns(table, likelihoods={"age": "huber"})
    found = [
        (type(b).__name__, len(c))
        for b, c in zip(head.blocks, head.columns, strict=True)
    ]
    assert found == [
        ("IndependentNormal", 1),
        ("IndependentHuber", 1),
        ("IndependentNegativeBinomial", 2),
        ("IndependentCategorical", 1),
        ("IndependentBernoulli", 3),
        ("IndependentCategorical", 1),
    ]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"continuous": "gauss"}, ValueError, "'huber'.*Received: 'gauss'"),
        ({"count": "normal"}, ValueError, "'poisson'"),
        ({"likelihoods": {"ward": "normal"}}, ValueError, "is categorical"),
        ({"likelihoods": {"agee": "normal"}}, ValueError, "no column of x"),
        ({"continuous": lambda n: n}, TypeError, "gives 2 for 2"),
        (
            {"continuous": lambda n: layers.IndependentNormal(3)},
            ValueError,
            "for 2",
        ),
        ({"kinds": {"age": "count"}}, ValueError, "beside a dict"),
    ],
)
def test_a_wrong_likelihood_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        layers.Composite.from_columns(GIVEN, **options)


def test_features():
    table = TableEncoder(
        [
            Column("age", "continuous"),
            Column("ward", "categorical", ("a", "b", "c")),
            Column("smokes", "binary"),
            Column("visits", "count", shift=1.0, scale=0.5),
        ]
    )
    features = layers.TableFeatures(table)
    x = np.float32([[0.3, 1.0, 0.0, 4.0], [0.0, 0.0, 1.0, 0.0]])
    count = (np.log(5) - 1) / 0.5
    plain = [[0.3, 0, 1, 0, -1, count], [0, 1, 0, 0, 1, -2]]
    np.testing.assert_allclose(numpy(features(x)), plain, rtol=1e-6)
    mask = np.float32([[1, 1, 1, 1], [0, 0, 1, 0]])
    masked = [[*plain[0], 1, 1, 1, 1], [0, 0, 0, 0, 1, 0, 0, 0, 1, 0]]
    np.testing.assert_allclose(numpy(features(x, mask)), masked, rtol=1e-6)
    assert features.num_features == 6
    with pytest.raises(ValueError, match=r"are \[..., 4\]"):
        features(x[:, :2])
    with pytest.raises(TypeError, match="the TableEncoder that x"):
        layers.TableFeatures(GIVEN)


# A warning of TFP's draws of a negative binomial, on JAX.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
def test_it_trains_and_is_saved_with_the_model(tmp_path):
    df = frame()
    head = layers.Composite.from_columns(df, verbose=False)
    table = head.table
    data = table.transform(df)
    x, observed = (
        keras.Input((table.width,), name=name) for name in ("x", "observed")
    )
    h = layers.TableFeatures(table)(x, observed)
    h = keras.layers.Dense(16, "tanh")(h)
    posterior = layers.Head(layers.MultivariateNormalDiag(2))(h)
    encoder = keras.Model([x, observed], posterior)
    decoder = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(16, "tanh"),
            layers.Head(head),
        ]
    )
    vae = VAE(encoder, decoder, seed=0, missing_values=np.nan)
    vae.compile(keras.optimizers.Adam(1e-2))
    losses = vae.fit(data, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 1
    full = table.inverse_transform(vae.impute(data, 50, seed=0), original=df)
    assert (full.dtypes == df.dtypes).all()
    assert not full.isna().any().any()
    assert (full == df).sum().sum() == df.notna().sum().sum()
    draws = table.inverse_transform(vae.sample(50, seed=0))
    assert (draws.dtypes == df.dtypes).all()
    assert draws["ward"].isin(df["ward"]).all()

    vae.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    found = TableEncoder.of(again)
    assert found.columns == table.columns
    np.testing.assert_array_equal(found.transform(df)["x"], data["x"])
    filled = again.impute(found.transform(df), 50, seed=0)
    pd.testing.assert_frame_equal(
        found.inverse_transform(filled, original=df), full
    )
    with pytest.raises(ValueError, match="has a table if"):
        TableEncoder.of(keras.Sequential([]))


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
def test_sample_of_a_head_has_outcomes_of_its_columns():
    head = layers.Composite.from_columns(GIVEN)
    draws = sample(head(np.zeros((1, head.num_parameters), "float32")), 200)
    draws = head.table.inverse_transform(draws[:, 0])
    assert set(draws["ward"]) == {"a", "b", "c"}
    assert set(draws["smokes"]) == {0, 1}
    assert (draws["income"] > 0).all()
    assert (draws["visits"] >= 0).all()
