"""Suggestions of past queries: success counts, few people never do, a history moves what goes with it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.understanding.suggest import LEAST_PEOPLE, PastQuery, Suggester, Taste


def catalog(titles: list[str], categories: list[list[str]] | None = None) -> CatalogView:
    n = len(titles)
    told = categories or [[] for _ in titles]
    names = list(dict.fromkeys(name for of in told for name in of))
    none = np.full(n, np.nan, np.float32)
    return CatalogView(
        items=Vocabulary([str(at) for at in range(n)]), title=titles, description=[""] * n,
        category=Ragged.of([[names.index(name) for name in of] for of in told]), category_names=names,
        people=Ragged.empty(n), people_names=[], country=np.full(n, -1, np.int32), country_names=[], year=none,
        price=none, available=np.ones(n, np.bool_), known_at=np.zeros(n, np.int64),
    )  # fmt: skip


def texts(suggester: Suggester, prefix: str, taste: Taste | None = None) -> list[tuple[str, str]]:
    return [(one.text, one.kind) for one in suggester.suggest(prefix, 10, taste)]


def test_past_queries_are_suggested_by_success() -> None:
    view = catalog(["Running shoe"])
    queries = [
        PastQuery("running socks", 100, 50, 80), PastQuery("running cap", 1_000, 400, 100),
        PastQuery("running in circles", 1_000, 400, 0), PastQuery("runing sox", 100, 50, 1),
    ]  # fmt: skip
    assert texts(Suggester.build(view, queries=queries), "run") == [
        ("running socks", "query"), ("running cap", "query"), ("Running shoe", "title")
    ]  # fmt: skip
    assert texts(Suggester.build(view, queries=queries), "runnnig so") == [("running socks", "query")]  # a typo


@settings(max_examples=60, deadline=None)
@given(st.integers(0, LEAST_PEOPLE - 1), st.integers(1, 10_000), st.text(max_size=12))
def test_a_query_of_few_people_is_never_suggested(people: int, successes: int, typed: str) -> None:
    secret = PastQuery("anna's secret wish", successes, people, successes)
    suggester = Suggester.build(catalog(["An apple"]), queries=[secret])
    for prefix in ("a", "ann", "annas secret", "secret", "wish", "anna's secret wish", typed):
        assert all("secret" not in text for text, _ in texts(suggester, prefix))


def test_a_query_that_is_a_title_lifts_the_title() -> None:
    view = catalog(["Shoe rack", "Shoe box"])
    suggester = Suggester.build(view, np.array([5, 1], np.float32), queries=[PastQuery("SHOE  box", 500, 90, 400)])
    assert texts(suggester, "shoe") == [("Shoe box", "title"), ("Shoe rack", "title")]


def test_a_history_moves_what_goes_with_it_up() -> None:
    view = catalog(["Star wars", "Star dust"], [["War"], ["Romance"]])
    suggester = Suggester.build(view, np.array([10, 9], np.float32))
    assert texts(suggester, "star")[0][0] == "Star wars"
    assert texts(suggester, "star", Taste({"Romance": 1.0}))[0][0] == "Star dust"
    assert texts(suggester, "star", Taste({}))[0][0] == "Star wars"


@pytest.mark.heavy
def test_two_milliseconds_are_enough() -> None:
    rng = np.random.default_rng(1)
    words = ["".join(rng.choice(list("abcdefghij"), 5)) for _ in range(3_000)]
    titles = [" ".join(rng.choice(words, 3)) for _ in range(20_000)]
    queries = [PastQuery(" ".join(rng.choice(words, 2)), 100, 40, 50) for _ in range(5_000)]
    names = [[f"c{n % 40}"] for n in range(20_000)]
    suggester = Suggester.build(catalog(titles, names), np.arange(20_000, dtype=np.float32), queries=queries)
    taste = Taste({f"c{n}": 0.2 for n in range(5)})
    prefixes = [title[: 2 + n % 8] for n, title in enumerate(titles[:300])]
    start = time.process_time()
    for prefix in prefixes:
        suggester.suggest(prefix, 10, taste)
    assert (time.process_time() - start) / len(prefixes) < 0.002
