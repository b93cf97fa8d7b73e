from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from honeyguide.ranking.heads import FILM_HEADS, HeadConfig, labels

ACTIONS = ("view", "rating", "purchase")
NONE, VIEW, RATING, PURCHASE = -1, 0, 1, 2


def label(head, action, value):
    return labels(head, np.array(action, np.int16), np.array(value, np.float32), ACTIONS).tolist()


def same(a, b):
    return np.array_equal(np.array(a, float), np.array(b, float), equal_nan=True)


def test_films_liked_disliked_and_watched():
    like, dislike, watch = FILM_HEADS
    action = [RATING, RATING, RATING, RATING, VIEW, NONE]
    value = [5.0, 4.0, 3.0, 2.0, np.nan, np.nan]
    nan = np.nan
    assert same(label(like, action, value), [1, 1, 0, 0, nan, nan])
    assert same(label(dislike, action, value), [0, 0, 0, 1, nan, nan])
    assert same(label(watch, action, value), [1, 1, 1, 1, 0, 0])


def test_without_impressions_watching_is_no_probability():
    assert [(head.name, head.calibrated) for head in FILM_HEADS] == [
        ("like", True),
        ("dislike", True),
        ("watch", False),
    ]


def test_several_actions_on_one_item():
    buy = HeadConfig(name="buy", action="purchase", given="view")
    action = [[VIEW, PURCHASE], [VIEW, NONE], [PURCHASE, NONE], [NONE, NONE]]
    assert same(label(buy, action, np.full((4, 2), np.nan)), [1, 0, np.nan, np.nan])


def test_a_bound_without_a_value_is_unknown_unless_another_action_decides():
    like = HeadConfig(name="like", action="rating", min_value=4.0)
    nan = np.nan
    assert same(
        label(like, [[RATING, NONE], [RATING, RATING], [RATING, RATING]], [[nan, nan], [nan, 5], [nan, 1]]),
        [nan, 1, nan],
    )


def test_an_action_that_never_happened():
    assert same(label(HeadConfig(name="x", action="save"), [VIEW, RATING], [1, 1]), [0, 0])
    assert same(label(HeadConfig(name="x", action="view", given="save"), [VIEW, RATING], [1, 1]), [np.nan, np.nan])


def test_the_config_is_closed():
    for bad in (
        {"name": "like", "action": "rating", "colour": 1},
        {"name": "Like it", "action": "rating"},
        {"name": "like", "action": ""},
        {"name": "like", "action": "rating", "min_value": 4, "max_value": 2},
        {"name": "like", "action": "rating", "kind": "guess"},
        {"name": "like", "action": "rating", "depth": 9},
    ):
        with pytest.raises(ValidationError):
            HeadConfig.model_validate(bad)
    with pytest.raises(ValueError, match="one shape"):
        labels(FILM_HEADS[0], np.zeros(3, np.int16), np.zeros(2, np.float32), ACTIONS)
