"""Definitions are closed, travel through the config unchanged, and say what they mean."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Interactions, Ragged
from honeyguide.errors import ConfigError
from honeyguide.features.defaults import default_features, value_bounds
from honeyguide.features.definition import Affinity, Context, Distance, Fact, Feature, FeatureSet
from honeyguide.features.training_set import LabelRows, training_set
from honeyguide.features.values import feature_values, training_table
from honeyguide.schema import columns as c
from honeyguide.schema.tables import FEATURE_VALUES
from honeyguide.schema.vocabulary import Vocabulary

DAY = 86_400_000_000


def catalog(*, bare: bool = False) -> CatalogView:
    unknown = np.full(3, np.nan, np.float32)
    return CatalogView(
        Vocabulary("abc"), [""] * 3, [""] * 3,
        Ragged.empty(3) if bare else Ragged.of([[0], [0, 1], []]), ["x", "y"],
        Ragged.empty(3) if bare else Ragged.of([[0], [], [1]]), ["p", "q"],
        np.array([-1, -1, -1] if bare else [0, 0, -1], np.int32), ["n"],
        unknown if bare else np.array([1990, 2000, 1970], np.float32),
        unknown if bare else np.array([1, 2, 3], np.float32), np.ones(3, np.bool_),
        np.array([0, 0, 0] if bare else [0, DAY, DAY], np.int64),
    )  # fmt: skip


def log() -> Interactions:
    rating = np.array([5, 4, 1, 3, 4, 2, np.nan], np.float32)
    return Interactions(
        np.array([0, 0, 1, 1, 2, 2, 0], np.int32), np.array([0, 1, 0, 2, 1, 2, 2], np.int32),
        np.array([0, 0, 0, 0, 0, 0, 1], np.int16), rating, np.nan_to_num(rating - 2.5).astype(np.float32),
        np.arange(7, dtype=np.int64) * DAY, 3, 3, ("rating", "view"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"aggregate": "mode"},
        {"window": 7},
        {"min_value": 4, "max_value": 2},
        {"aggregate": "recency", "window_days": 7},
        {"aggregate": "trend"},
        {"of_days": 7},
        {"of_action": "view"},
        {"aggregate": "mean", "prior": 3.0},
        {"aggregate": "mean", "strength": 3.0},
        {"prior": "overall", "strength": 3.0},
        {"window_days": 0},
        {"hop": "week"},
        {"name": "Not A Name"},
        {"kind": "oracle"},
        {"entity": "pair"},
    ],
)
def test_what_makes_no_sense_is_refused_with_the_name_of_the_feature(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as error:
        FeatureSet.from_config([{"name": "plays", "entity": "item", "aggregate": "count"} | wrong])
    assert str(wrong.get("name", "plays")) in error.value.got


def test_a_name_belongs_to_one_feature() -> None:
    one = {"name": "plays", "entity": "item", "aggregate": "count"}
    with pytest.raises(ConfigError, match="plays"):
        FeatureSet.from_config([one, one])


def test_features_can_be_declared_in_toml() -> None:
    text = """
    [[features]]
    name = "item_clicks_7d"
    entity = "item"
    aggregate = "count"
    action = "click"
    window_days = 7

    [[features]]
    kind = "affinity"
    name = "genre_share"
    facet = "category"
    measure = "share"
    last = 50
    """
    features = FeatureSet.from_config(tomllib.loads(text)["features"])
    assert features.features == (
        Feature(name="item_clicks_7d", entity="item", aggregate="count", action="click", window_days=7),
        Affinity(name="genre_share", facet="category", measure="share", last=50),
    )
    assert features.history_limit == 50


@given(
    st.lists(
        st.sampled_from(
            [
                Feature(
                    name="a", entity="item", aggregate="ratio", action="x", min_value=4, prior="overall", strength=2
                ),
                Feature(name="b", entity="user", aggregate="trend", window_days=1.5, of_days=30, hop="5min"),
                Affinity(name="c", facet="people", measure="like", half_life=3, strength=0),
                Distance(name="d", fact="price", last=7),
                Fact(name="e", fact="age_days"),
                Context(name="f", fact="hour", utc_offset_hours=-7),
            ]
        ),
        unique=True,
    )
)
def test_the_config_gives_the_same_set_back(definitions: list[Feature]) -> None:
    features = FeatureSet(tuple(definitions))
    again = FeatureSet.from_config(features.to_config())
    assert again == features
    assert again.fingerprint == features.fingerprint
    assert [e.name for e in again.explain()] == list(features.names)
    assert all(e.meaning and e.window for e in again.explain())


def test_the_fingerprint_knows_the_order() -> None:
    a, b = Fact(name="a", fact="year"), Fact(name="b", fact="price")
    assert FeatureSet((a, b)).fingerprint != FeatureSet((b, a)).fingerprint


def test_a_feature_is_explained_in_words() -> None:
    feature = Feature(
        name="liked", entity="item", aggregate="ratio", action="rating", min_value=4, window_days=90, hop="day",
        prior="overall", strength=10,
    )  # fmt: skip
    (explained,) = FeatureSet((feature,)).explain()
    assert explained.window == "90 days by day"
    assert explained.meaning == (
        "rating events of 4 or more as a share of rating events, shrunk to everybody's by the weight of 10"
    )


def test_defaults_fit_any_workspace() -> None:
    rich = default_features(("rating", "view"), {"rating": (2, 4)}, catalog())
    assert {"age_days", "price", "country_share", "people_overlap", "item_rating_like", "user_view_ratio"} <= {
        *rich.names
    }
    poor = default_features(("click",), {}, catalog(bare=True))
    assert not any(name.startswith(("category", "people", "year", "price", "age")) for name in poor.names)
    odd = default_features(
        ("点击", "购买", "Add-Cart", "add cart", "events"), {"点击": (1, 2), "购买": (1, 2)}, catalog()
    )
    assert len({*odd.names}) == len(odd)
    for features in (rich, poor, odd):
        values = training_set(
            features, log(), catalog(), LabelRows(*np.array([[0], [1]], np.int32), np.array([9 * DAY]))
        )
        assert values.shape == (1, len(features))
    movies = default_features(("rating",), {"rating": (2, 4)}, catalog())
    assert 35 <= len(movies) <= 45


def test_bounds_are_guessed_for_actions_that_carry_values() -> None:
    assert value_bounds(log()) == {"rating": (2.25, 4.0)}


def test_the_tables_hold_what_the_arrays_hold() -> None:
    features = default_features(("rating",), {"rating": (2, 4)}, catalog())
    users, items = Vocabulary("uvw"), Vocabulary("abc")
    table = feature_values(features, log(), users, items, 5 * DAY)
    assert table.schema.equals(FEATURE_VALUES.arrow())
    assert len(table) == 3 * (len(features.aggregates("user")) + len(features.aggregates("item")))
    rows = {(r[c.ENTITY], r[c.ENTITY_ID], r[c.FEATURE]): r[c.FEATURE_VALUE] for r in table.to_pylist()}
    assert rows["item", "a", "item_events"] == 2  # the event of day 5 itself is not seen
    assert rows["user", "w", "user_events"] == 1
    assert rows["user", "w", "user_rating_std"] is None

    labels = LabelRows(np.array([0, -1], np.int32), np.array([1, 2], np.int32), np.array([3 * DAY, 4 * DAY]))
    values = training_set(features, log(), catalog(), labels)
    training = training_table(features, labels, values, users, items)
    assert training[c.USER_ID].to_pylist() == ["u", ""]
    assert training[c.LABEL_ID].to_pylist() == [0, 1]
    for column, name in enumerate(features.names):
        got = np.array(training[name].to_pylist(), np.float32)
        np.testing.assert_array_equal(got, values[:, column])
