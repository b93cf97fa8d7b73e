"""Scorers from outside: what they give, and what becomes of a candidate when they fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from scipy.special import expit

from honeyguide.contracts import RankInput
from honeyguide.engines.http.posting import Posting
from honeyguide.errors import BuildError, ConfigError, DataError
from honeyguide.flows.scorers import LOADERS, scorer_of, scores_of
from honeyguide.ranking.config import RankerConfig
from honeyguide.ranking.external import HttpScorer, ParquetScorer, log_odds
from honeyguide.ranking.fit import fit_heads
from honeyguide.ranking.heads import HeadConfig, ScorerConfig
from honeyguide.ranking.models import Given
from honeyguide.ranking.ranker import HeadsRanker
from honeyguide.ranking.rows import Rows
from honeyguide.schema.vocabulary import Vocabulary

COLUMNS = ("a", "b", "c")
USERS, ITEMS = Vocabulary([f"u{n}" for n in range(20)]), Vocabulary([f"i{n}" for n in range(50)])


def candidates(n: int = 6, user: int = 3) -> RankInput:
    rng = np.random.default_rng(0)
    given = RankInput.of_features(rng.normal(size=(n, 3)).astype(np.float32))
    return replace(given, items=np.arange(n, dtype=np.int32), users=np.array([user], np.int32))


def http(post: Any, **given: Any) -> HttpScorer:
    config = ScorerConfig(kind="http", url="http://nowhere", **given)
    scorer = HttpScorer("click", config, COLUMNS, post, clock=lambda: CLOCK[0])
    scorer.bind(lambda: (USERS.ids, ITEMS.ids))
    return scorer


CLOCK = [0.0]


@contextmanager
def endpoint(answer: Any) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An endpoint that answers with `answer(body)`: bytes, or (status, bytes)."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body | {"connection": self.client_address[1]})
            found = answer(body)
            status, out = found if isinstance(found, tuple) else (200, found)
            self.send_response(status)
            self.send_header("Content-Length", str(len(out)))
            self.end_headers()
            self.wfile.write(out)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/score", asked
    finally:
        server.shutdown()
        server.server_close()


# -------------------------------------------------------------------------------------------------------- numbers


def test_what_is_given_becomes_log_odds_or_nothing() -> None:
    given = np.array([0.25, 1.5, -0.1, np.nan, np.inf, 0.0])
    p = log_odds(given, "probability")
    assert p[0] == pytest.approx(np.log(0.25 / 0.75))
    assert np.isnan(p[1:5]).all()  # no probabilities: never a silent number
    assert np.isfinite(p[5])
    assert np.array_equal(log_odds(given, "score"), [0.25, 1.5, -0.1, np.nan, np.nan, 0.0], equal_nan=True)


@pytest.mark.parametrize("bad", [
    {"kind": "http"}, {"kind": "http", "url": "ftp://x"}, {"kind": "onnx"}, {"kind": "parquet", "url": "http://x"},
    {"kind": "csv", "path": "x"}, {"kind": "onnx", "path": "x", "batch": 0},
])  # fmt: skip
def test_a_scorer_that_is_told_by_halves_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScorerConfig(**bad)


# ----------------------------------------------------------------------------------------------------------- http


def test_an_endpoint_is_asked_once_over_a_kept_connection() -> None:
    def answer(body: dict[str, Any]) -> bytes:
        return msgspec.json.encode({"scores": [float(item[1:]) for item in body["item_id"]]})

    with endpoint(answer) as (url, asked):
        config = ScorerConfig(kind="http", url=url, columns=("b",), deadline_ms=5_000)
        scorer = scorer_of(HeadConfig(name="click", action="click", scorer=config), Path(), COLUMNS, USERS, ITEMS)
        given = candidates()
        assert scorer.raw(given)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
        assert scorer.raw(given)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
        nobody = replace(given, users=np.array([-1], np.int32))
        scorer.raw(nobody)
    assert len(asked) == 3
    assert len({one["connection"] for one in asked}) == 1
    assert asked[0]["user_id"] == ["u3"] * 6
    assert asked[2]["user_id"] == [None] * 6
    assert asked[0]["features"]["b"] == pytest.approx(given.features[:, 1].tolist())
    assert scorer.lapses == {}


@pytest.mark.parametrize("out, reason", [
    (b'{"scores": [1, 2]}', "length"),
    (b"{", "unreadable"),
    (b'{"other": []}', "unreadable"),
    (b'{"scores": ["a", 1, 1, 1, 1, 1]}', "unreadable"),
    ((500, b"{}"), "unreachable"),
    ((404, b""), "unreachable"),
])  # fmt: skip
def test_a_wrong_answer_is_no_answer(out: Any, reason: str) -> None:
    with endpoint(lambda body: out) as (url, _):
        config = ScorerConfig(kind="http", url=url, deadline_ms=5_000)
        scorer = scorer_of(HeadConfig(name="click", action="click", scorer=config), Path(), COLUMNS, USERS, ITEMS)
        assert np.isnan(scorer.raw(candidates())).all()
    assert scorer.lapses == {reason: 6}
    assert reason in scorer.lapsed


def test_a_null_is_no_score_and_the_others_count() -> None:
    scorer = http(lambda body, seconds: b'{"scores": [0.1, null, 0.3, 0.4, 2.0, 0.6]}', gives="probability")
    raw = scorer.raw(candidates())[:, 0]
    assert np.isnan(raw).tolist() == [False, True, False, False, True, False]
    assert scorer.lapses == {"nan": 2}
    assert "nan" in scorer.lapsed
    scorer._post = lambda body, seconds: b'{"scores": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}'
    scorer.raw(candidates())
    assert scorer.lapsed == ""  # of the newest answer


def test_what_is_slow_is_late_also_where_it_drips() -> None:
    def drip(connection: Any) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(50):
            time.sleep(0.02)
            try:
                connection.sendall(b"x")
            except OSError:
                return

    import socket

    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: drip(listening.accept()[0]), daemon=True)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        Posting(f"http://127.0.0.1:{listening.getsockname()[1]}/")(b"{}", 0.1)
    assert time.monotonic() - begun < 5
    listening.close()
    thread.join(5)
    scorer = http(_late)
    assert np.isnan(scorer.raw(candidates())).all()
    assert scorer.lapses == {"late": 6}


def _late(body: bytes, seconds: float) -> bytes:
    raise TimeoutError


def test_an_endpoint_that_fails_is_left_alone_for_a_while() -> None:
    calls = [0]

    def post(body: bytes, seconds: float) -> bytes:
        calls[0] += 1
        if calls[0] <= 3:
            raise OSError("refused")
        return b'{"scores": [1, 1, 1, 1, 1, 1]}'

    CLOCK[0] = 0.0
    scorer = http(post, failures=3, retry_s=5)
    for _ in range(5):
        assert np.isnan(scorer.raw(candidates())).all()
    assert calls[0] == 3  # then nobody asks
    assert scorer.lapses == {"unreachable": 18, "resting": 12}
    CLOCK[0] = 6.0
    assert (scorer.raw(candidates()) == 1.0).all()
    assert scorer.lapsed == ""


# -------------------------------------------------------------------------------------------------------- parquet


def parquet(folder: Path, table: dict[str, list[Any]]) -> HeadConfig:
    pq.write_table(pa.table(table), folder / "scores.parquet")
    return HeadConfig(name="click", action="click", scorer=ScorerConfig(kind="parquet", path="scores.parquet"))


def test_a_table_of_scores_by_item_or_by_person_and_item(tmp_path: Path) -> None:
    head = parquet(tmp_path, {"item_id": ["i2", "i0", "gone"], "score": [2.0, 0.5, 9.0]})
    scorer = scorer_of(head, tmp_path, COLUMNS, USERS, ITEMS)
    assert np.array_equal(scorer.raw(candidates(4))[:, 0], [0.5, np.nan, 2.0, np.nan], equal_nan=True)
    assert scorer.lapses == {"absent": 2}
    assert scorer.lapsed == ""  # an item without a score is no alarm
    head = parquet(tmp_path, {"user_id": ["u3", "u4"], "item_id": ["i1", "i1"], "score": [1.0, 7.0]})
    scorer = scorer_of(head, tmp_path, COLUMNS, USERS, ITEMS)
    assert np.array_equal(scorer.raw(candidates(2))[:, 0], [np.nan, 1.0], equal_nan=True)
    assert scorer.raw(candidates(2, user=4))[1, 0] == 7.0
    assert np.isnan(scorer.raw(candidates(2, user=-1))).all()
    folder = tmp_path / "saved"
    folder.mkdir()
    scorer.save(folder)
    again = ParquetScorer.load(folder)
    assert np.array_equal(again.raw(candidates(5)), scorer.raw(candidates(5)), equal_nan=True)


@pytest.mark.parametrize("table, word", [
    ({"item_id": ["i1"]}, "no score"),
    ({"item_id": ["i1", "i1"], "score": [1.0, 2.0]}, "twice"),
    ({"item_id": ["x"], "score": [1.0]}, "none of which names a known item"),
])  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, table: dict[str, list[Any]], word: str) -> None:
    with pytest.raises(DataError, match=word):
        scorer_of(parquet(tmp_path, table), tmp_path, COLUMNS, USERS, ITEMS)


def test_a_file_that_is_not_there_or_no_parquet(tmp_path: Path) -> None:
    head = HeadConfig(name="click", action="click", scorer=ScorerConfig(kind="parquet", path="none.parquet"))
    with pytest.raises(ConfigError, match=r"a file at .*none\.parquet"):
        scorer_of(head, tmp_path, COLUMNS, USERS, ITEMS)
    (tmp_path / "none.parquet").write_text("no")
    with pytest.raises(DataError, match="a Parquet table"):
        scorer_of(head, tmp_path, COLUMNS, USERS, ITEMS)


# ----------------------------------------------------------------------------------------------------------- onnx


def onnx_file(path: Path, *, inputs: int = 2, name: str = "x") -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    weight = helper.make_tensor("w", TensorProto.FLOAT, [inputs, 1], [2.0] * inputs)
    graph = helper.make_graph(
        [helper.make_node("MatMul", [name, "w"], ["y"])], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])], [weight],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def test_an_onnx_file_scores_the_columns_it_names(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx_file(tmp_path / "m.onnx")
    config = ScorerConfig(kind="onnx", path="m.onnx", columns=("c", "a"))
    head = HeadConfig(name="click", action="click", scorer=config)
    scorer = scorer_of(head, tmp_path, COLUMNS, USERS, ITEMS)
    given = candidates()
    assert scorer.raw(given)[:, 0] == pytest.approx(2 * (given.features[:, 0] + given.features[:, 2]), rel=1e-5)
    folder = tmp_path / "saved"
    folder.mkdir()
    scorer.save(folder)
    (tmp_path / "m.onnx").unlink()  # the build has a copy of its own
    assert np.array_equal(LOADERS["onnx"](folder).raw(given), scorer.raw(given))


def test_an_onnx_file_with_other_inputs_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx_file(tmp_path / "m.onnx", inputs=5)
    head = HeadConfig(name="click", action="click", scorer=ScorerConfig(kind="onnx", path="m.onnx"))
    with pytest.raises(BuildError, match=r"take one matrix of numbers \(any, 3\)"):
        scorer_of(head, tmp_path, COLUMNS, USERS, ITEMS)
    named = head.model_copy(update={"scorer": ScorerConfig(kind="onnx", path="m.onnx", columns=("a", "late"))})
    with pytest.raises(ConfigError, match="late"):
        scorer_of(named, tmp_path, COLUMNS, USERS, ITEMS)
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(BuildError, match="ONNX"):
        scorer_of(head, tmp_path, COLUMNS, USERS, ITEMS)


# --------------------------------------------------------------------------------------------- in the place of a head


def test_a_scorer_is_calibrated_measured_and_served_like_any_head(tmp_path: Path) -> None:
    """A table that tells twice the log-odds: calibrated, its probabilities are true; without a score, the base rate."""
    rng = np.random.default_rng(0)
    n = 8_000
    user, item = rng.integers(0, 20, n).astype(np.int32), rng.integers(0, 50, n).astype(np.int32)
    truth = rng.normal(size=(20, 50))
    truth[:, 49] = 0.0
    p = expit(truth[user, item])
    y = (rng.random(n) < p).astype(np.float32)
    rows = Rows(
        rng.normal(size=(n, 3)).astype(np.float32), y[:, None], np.arange(n) * 1_000_000, unit=user.astype(np.int64),
        user=user, item=item,
    )  # fmt: skip
    pairs = [(u, i) for u in range(20) for i in range(49)]
    head = parquet(tmp_path, {
        "user_id": [f"u{u}" for u, _ in pairs], "item_id": [f"i{i}" for _, i in pairs],
        "score": [2 * truth[u, i] for u, i in pairs],
    })  # fmt: skip
    given = scores_of((head,), tmp_path, COLUMNS, rows, USERS, ITEMS)
    ranker = fit_heads(RankerConfig(resamples=200), (head,), [], COLUMNS, rows, given=given)
    (report,) = ranker.reports
    assert (report.model, report.on, report.calibrated) == ("parquet", True, True)
    assert report.calibrator in ("platt", "beta", "isotonic")
    assert report.metrics["calibration_error"] < 0.05
    folder = tmp_path / "ranker"
    folder.mkdir()
    ranker.save(folder)
    again = HeadsRanker.load(folder, COLUMNS, loaders=LOADERS)
    asked = replace(candidates(50), items=np.arange(50, dtype=np.int32))
    scores = again.score(asked)[:, 0]
    assert scores[:49] == pytest.approx(expit(truth[3, :49]), abs=0.06)
    base = float(y[: round(n * 0.62)].mean())
    assert scores[49] == pytest.approx(base, abs=1e-3)  # nobody said anything of it
    assert again.lapses() == {"click_absent": 1.0}


def test_an_endpoint_that_falls_silent_leaves_the_base_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 3_000
    x = rng.normal(size=(n, 3)).astype(np.float32)
    y = (rng.random(n) < expit(2.0 * x[:, 0])).astype(np.float32)
    rows = Rows(x, y[:, None], np.arange(n) * 1_000_000)
    scorer = http(_late)
    given = {"click": [Given(scorer, 2.0 * x[:, 0].astype(float), {})]}
    head = HeadConfig(name="click", action="click", scorer=scorer.config)
    ranker = fit_heads(RankerConfig(resamples=200), (head,), [], COLUMNS, rows, given=given)
    scores = ranker.score(candidates())[:, 0]
    assert scores == pytest.approx(float(y[: round(n * 0.62)].mean()), abs=1e-3)
    assert ranker.lapsed == "click: http scorer, late"
    assert ranker.lapses() == {"click_late": 6.0}
