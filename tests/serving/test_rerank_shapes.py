"""Answers of other engines: read, re-ordered, given back in the same shape; anything else refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.errors import RequestError
from honeyguide.serving.rerank import MOST_HITS, read_hits

ELASTIC = {
    "took": 5, "timed_out": False, "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
    "hits": {
        "total": {"value": 3, "relation": "eq"}, "max_score": 9.1,
        "hits": [
            {"_index": "shop", "_id": "1", "_score": 9.1, "_source": {"sku": "A-1", "title": "Red shoe"}},
            {"_index": "shop", "_id": "2", "_score": 7.0, "_source": {"sku": "A-2"}, "highlight": {"title": ["x"]}},
            {"_index": "shop", "_id": "3", "_score": None, "_source": {"sku": "A-3"}, "sort": [1]},
        ],
    },
    "aggregations": {"brands": {"buckets": [{"key": "Nike", "doc_count": 2}]}},
}  # fmt: skip
SOLR = {
    "responseHeader": {"status": 0, "QTime": 2, "params": {"q": "shoe"}},
    "response": {"numFound": 3, "start": 0, "numFoundExact": True,
                 "docs": [{"id": "1", "title": ["Red shoe"], "score": 2.5}, {"id": "2"}, {"id": "3", "sku": ["A-3"]}]},
    "facet_counts": {"facet_fields": {"brand": ["nike", 2]}},
}  # fmt: skip
LISTS: list[Any] = [["1", "2", "3"], [1, 2, 3], [{"id": "1"}, {"id": 2}, {"item_id": "3"}], ["1", {"id": "2"}, 3]]


def places(answer: Any) -> list[Any]:
    return answer["hits"]["hits"] if "hits" in answer else answer["response"]["docs"]


@pytest.mark.parametrize(("response", "engine"), [(ELASTIC, "elasticsearch"), (SOLR, "solr")])
def test_hits_come_back_as_they_were_in_another_order(response: dict[str, Any], engine: str) -> None:
    found = read_hits(response)
    assert (found.engine, found.ids) == (engine, ("1", "2", "3"))
    back = found.back([2, 0, 1])
    before = places(response)
    assert places(back) == [before[2], before[0], before[1]]
    assert found.back([0, 1, 2]) == response
    assert {k: v for k, v in back.items() if k not in ("hits", "response")} == {
        k: v for k, v in response.items() if k not in ("hits", "response")
    }


def test_opensearch_has_the_same_shape_and_ids_may_stand_elsewhere() -> None:
    assert read_hits(ELASTIC, "opensearch").engine == "opensearch"
    assert read_hits(ELASTIC, id_field="_source.sku").ids == ("A-1", "A-2", "A-3")
    assert read_hits({"response": {"docs": [{"sku": ["A-3"]}]}}, id_field="sku").ids == ("A-3",)
    assert read_hits({"hits": {"hits": [{"_id": "x", "a.b": 7}]}}, id_field="a.b").ids == ("7",)


@pytest.mark.parametrize("response", LISTS)
def test_plain_lists(response: list[Any]) -> None:
    found = read_hits(response)
    assert (found.engine, found.ids) == ("list", ("1", "2", "3"))
    assert found.back([1, 0, 2]) == [response[1], response[0], response[2]]


@pytest.mark.parametrize(
    ("response", "engine", "said"),
    [
        (None, None, "null"), (3, None, "a number"), ("hits", None, "a text"), (True, None, "true or false"),
        ({}, None, "hits.hits"), ({"hits": None}, None, "null under hits"), ({"hits": {}}, None, "hits without hits"),
        ({"hits": {"hits": {}}}, None, "under hits.hits"), ({"hits": []}, None, "a list under hits"),
        ({"responses": []}, None, "_msearch"), ({"grouped": {}}, None, "grouped"), ({"response": {}}, None, "docs"),
        ({"hits": {"hits": [{}]}}, None, "as hit 1"), ({"hits": {"hits": ["a", None]}}, None, "as hit 2"),
        ([{"id": None}], None, "as hit 1"), ([""], None, "as hit 1"),
        (["a\x00"], None, "hit 1"), ([["a"]], None, "hit 1"),
        ([True], None, "as hit 1"), (["x" * 600], None, "hit 1"), (ELASTIC, "solr", "without response"),
        (SOLR, "elasticsearch", "without hits"), ({}, "list", "an object"), (["a"] * (MOST_HITS + 1), None, "1,001"),
        ([{"id": [1, 2]}], None, "as hit 1"),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_an_engine(response: Any, engine: str | None, said: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_hits(response, engine)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda of: (
        st.lists(of, max_size=4)
        | st.dictionaries(st.sampled_from(["hits", "response", "docs", "id", "_id", "grouped", "x"]), of, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    json,
    st.sampled_from([None, "elasticsearch", "opensearch", "solr", "list"]),
    st.sampled_from([None, "id", "a.b", "."]),
)
def test_whatever_is_sent_is_read_or_refused(response: Any, engine: str | None, id_field: str | None) -> None:
    try:
        found = read_hits(response, engine, id_field)
    except RequestError:
        return
    assert found.back(range(len(found.ids))) == response
