"""Whatever a person or a client sends to search gets an answer or one clear sentence, never a failure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from honeyguide.errors import BuildError, RequestError
from honeyguide.flows.layout import Layout
from honeyguide.flows.operate import server
from honeyguide.flows.wiring import Desk, open_desk
from honeyguide.schema.wire import Filters, Item, SearchRequest


@pytest.fixture(scope="module")
def desk(built: Path) -> Iterator[Desk]:
    found = open_desk(str(built), writable=False, watch=False)
    yield found
    found.close()


WRITTEN = [
    "", " ", "\x00\x07", "AND OR NOT", '"unclosed', "title:space^4 +love -story", "(((", "*?~", "\u202eمرحبا שלום",
    "🍯🐝 🎬",
    "'; DROP TABLE items; --", "<script>alert(1)</script>", "\ud800", "space" * 2_000, "a " * 5_000, "1995", "%", "\\",
]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.one_of(st.sampled_from(WRITTEN), st.text(max_size=60)),
    k=st.integers(1, 50), offset=st.integers(0, 10_000),
    sort=st.sampled_from(["relevance", "popularity", "price", "-price", "year", "-year", "title"]),
    words=st.dictionaries(st.sampled_from(["categories", "people", "decade"]), st.text(max_size=10), max_size=2),
    person=st.sampled_from([None, "p1", "nobody"]),
)  # fmt: skip
def test_any_query_gets_an_answer(
    desk: Desk, query: str, k: int, offset: int, sort: str, words: dict[str, str], person: str | None
) -> None:
    request = SearchRequest(query, user_id=person, k=k, offset=offset, sort=sort, facet_text=words, log=False)
    answer = desk.search(request)
    assert len(answer.items) <= k
    assert [item.position for item in answer.items] == list(range(offset + 1, offset + 1 + len(answer.items)))
    assert offset + len(answer.items) <= max(answer.total, offset)
    for item in answer.items:
        assert "<script" not in (item.highlight or "")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sort": "cheapest"}, "relevance"),
        ({"facet_text": {"size": "4"}}, "facet"),
        ({"filters": Filters(attributes={"size": ["4"]})}, "facet"),
    ],
)
def test_what_search_does_not_know_is_said_in_a_sentence(desk: Desk, more: dict, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        desk.search(SearchRequest("space", log=False, **more))


def test_a_page_beyond_the_end_is_empty_and_says_how_many_there_are(desk: Desk) -> None:
    answer = desk.search(SearchRequest("space", offset=9_000, log=False))
    assert answer.items == []
    assert answer.total > 0


def test_an_index_of_another_version_is_refused(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    shutil.copytree(built, folder)
    layout = Layout.open(folder)
    manifest = json.loads(layout.manifest(layout.current_build()).read_text())
    path = layout.root / manifest["folders"]["text"] / "lexical.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with pytest.raises(BuildError, match="format 1"):
        open_desk(str(folder), writable=False, watch=False)


@pytest.mark.heavy
def test_over_http(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    shutil.copytree(built, folder)
    with server(folder, port=0, workers=1) as running, httpx.Client(base_url=running.url, trust_env=False) as http:
        for query in WRITTEN:
            body = json.dumps({"query": query})
            assert http.post("/v1/search", content=body).status_code in (200, 400, 422), query
        for wrong in ({"sort": "x"}, {"facet_text": {"size": "4"}}, {"filters": {"attributes": {"size": ["4"]}}}):
            answer = http.post("/v1/search", json={"query": "space", **wrong})
            assert answer.status_code == 422, answer.text
        assert http.post("/v1/recommend", json={"filters": {"attributes": {"a": ["b"]}}}).status_code == 422
        untitled = Item("x-1", description="a comet nobody named")
        put = http.put("/v1/items/x-1", json={"item_id": "x-1", "description": untitled.description})
        assert put.status_code in (200, 202, 204)
        assert http.post("/v1/search", json={"query": "comet nobody named"}).json()["items"][0]["item_id"] == "x-1"
