"""`honeyguide ope` on files of all kinds, from the log to the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from honeyguide.cli import main
from honeyguide.contracts import LogRecord
from honeyguide.engines.log.sqlite import SqliteLog
from honeyguide.errors import ConfigError, DataError
from honeyguide.flows.layout import Layout
from honeyguide.flows.ope.estimate import ope
from honeyguide.flows.ope.page import overlap_chart
from honeyguide.schema import columns as c
from honeyguide.schema.tables import REPLAY_VALUE
from honeyguide.schema.wire import EventIn, EventsRequest
from honeyguide.serving.record import event_records

ACTIONS = ["a", "b", "c", "d"]


def made(n: int = 1_500, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(4, 5.0), 2) * 0.8 + 0.05
    device = rng.integers(0, 2, n)
    action = (p[device].cumsum(1) > rng.random((n, 1))).argmax(1)
    return pa.table({
        str(c.REQUEST_ID): [f"r{i}" for i in range(n)],
        str(c.CHOSEN): [ACTIONS[a] for a in action],
        str(c.PROPENSITY): p[device, action],
        str(c.REWARD): (rng.random(n) < 0.1 + 0.1 * action).astype(float),
        str(c.OFFERED): [ACTIONS] * n,
        str(c.PROBABILITIES): p[device].tolist(),
        str(c.CONTEXT): [f'{{"device":"d{d}"}}' for d in device],
        "best": [ACTIONS[d + 1] for d in device],
        "score": [rng.random(4).tolist() for _ in range(n)],
    })  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.parquet"
    pq.write_table(made(), path)
    return path


def estimate(report: dict[str, Any], name: str = "snips") -> float:
    found = next(one["estimate"] for one in report["estimates"] if one["estimator"] == name)
    assert isinstance(found, float)
    return found


def test_the_report_of_a_parquet_file(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, values = tmp_path / "value.html", tmp_path / "value.parquet"
    with pytest.raises(SystemExit) as left:
        main(["ope", str(log), "--policy", "uniform", "--json", "--html", str(page), "--out", str(values)])
    assert left.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"]["name"] == "IDENTIFIABLE"
    assert estimate(report) == pytest.approx(0.25, abs=0.05)
    assert report["says"][1].startswith("`uniform` would have earned")
    assert pq.read_table(values).schema.equals(REPLAY_VALUE.arrow())
    text = page.read_text()
    assert "IDENTIFIABLE" in text
    assert text.count("<svg") == 2
    assert "http" not in text.replace("http-equiv", "")


def test_the_terminal_says_the_same_in_words(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["ope", str(log), "--policy", "logging"])
    said = capsys.readouterr().out
    assert "not told apart from the log's policy" in said
    assert "overlap: 1,500 decisions are worth 1,500" in said


def test_csv_and_json_lines_give_the_numbers_of_parquet(log: Path, tmp_path: Path) -> None:
    table = made()
    texts = {name: table[name].to_pylist() for name in table.column_names if name != "score"}
    texts[c.OFFERED] = ["|".join(cell) for cell in texts[c.OFFERED]]
    texts[c.PROBABILITIES] = [json.dumps(cell) for cell in texts[c.PROBABILITIES]]
    pcsv.write_csv(pa.table({str(k): v for k, v in texts.items()}), tmp_path / "log.csv")
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row) for row in table.to_pylist()))
    first = ope(log, policy="uniform")
    for name in ("log.csv", "log.jsonl"):
        other = ope(tmp_path / name, policy="uniform")
        assert other["estimates"] == first["estimates"], name


def test_columns_by_other_names(log: Path, tmp_path: Path) -> None:
    table = made().rename_columns([{"chosen": "arm", "propensity": "p"}.get(n, n) for n in made().column_names])
    table = table.append_column("paid", pa.array(np.arange(1_500) % 3 * 1.0))
    pq.write_table(table, tmp_path / "other.parquet")
    mapping = {"chosen": "arm", "propensity": "p"}
    assert ope(tmp_path / "other.parquet", policy="uniform", mapping=mapping)["estimates"] == ope(log, policy="uniform")["estimates"]  # fmt: skip  # noqa: E501
    paid = ope(tmp_path / "other.parquet", policy="uniform", mapping=mapping, reward="paid")
    assert estimate(paid) == pytest.approx(1.0, abs=0.15)
    assert any("range was not told" in note for note in paid["notes"])
    with pytest.raises(DataError, match="a column `nothing`"):
        ope(log, policy="uniform", reward="nothing")


@pytest.mark.parametrize("form", ["json", "json-by-device", "csv", "parquet-by-request", "csv-by-device"])
def test_a_policy_in_every_form_is_the_same_policy(log: Path, tmp_path: Path, form: str) -> None:
    wanted = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    actions, p = list(wanted), list(wanted.values())
    if form == "json":
        path = tmp_path / "p.json"
        path.write_text(json.dumps(wanted))
    elif form == "json-by-device":
        path = tmp_path / "p.json"
        path.write_text(json.dumps({"d0": wanted, "d1": wanted}))
    elif form == "csv":
        path = tmp_path / "p.csv"
        path.write_text("action,probability\n" + "".join(f"{a},{x}\n" for a, x in wanted.items()))
    elif form == "csv-by-device":
        path = tmp_path / "p.csv"
        lines = [f"{d},{a},{x}\n" for d in ("d0", "d1") for a, x in wanted.items()]
        path.write_text("device,action,probability\n" + "".join(lines))
    else:
        path = tmp_path / "p.parquet"
        n = 1_500
        pq.write_table(pa.table({
            str(c.REQUEST_ID): [f"r{i}" for i in range(n) for _ in actions], str(c.CHOSEN): actions * n,
            str(c.PROPENSITY): p * n,
        }), path)  # fmt: skip
    report = ope(log, policy=str(path), estimators=("ips",))
    w = wanted
    rows = made().to_pylist()
    by_hand = sum(w[row["chosen"]] / row["propensity"] * row["reward"] for row in rows) / len(rows)
    assert estimate(report, "ips") == pytest.approx(by_hand, abs=1e-9)


def test_best_of_a_column_of_scores_or_of_names(log: Path) -> None:
    rows = made().to_pylist()
    by_score = sum(
        (row["chosen"] == ACTIONS[int(np.argmax(row["score"]))]) / row["propensity"] * row["reward"] for row in rows
    )
    assert estimate(ope(log, policy="best-of:score", estimators=("ips",)), "ips") == pytest.approx(by_score / 1_500)
    by_name = sum((row["chosen"] == row["best"]) / row["propensity"] * row["reward"] for row in rows)
    assert estimate(ope(log, policy="best-of:best", estimators=("ips",)), "ips") == pytest.approx(by_name / 1_500)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policy": "the-best"}, "a policy: uniform"),
        ({"policy": "best-of:nothing"}, "a column `nothing`"),
        ({"policy": "best-of:reward"}, "scores, or names"),
        ({"policy": "uniform", "logged_by": "v7"}, "to choose 'v7' from"),
        ({"policy": "uniform", "mapping": {"reward": "none"}}, "a column `none`"),
        ({"policy": "uniform", "mapping": {"colour": "best"}}, "a column of ours"),
    ],
)
def test_what_cannot_be_is_refused(log: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ope(log, **options)


def test_options_out_of_range_are_refused(log: Path) -> None:
    for options in (
        {"estimators": ("rips",)}, {"model": "magic"}, {"level": 0.2}, {"tuning": "luck"},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            ope(log, policy="uniform", **options)


def test_trees_and_ridge_are_reward_models(log: Path) -> None:
    for model in ("ridge", "trees"):
        report = ope(log, policy="uniform", model=model, estimators=("dr", "dm"))
        assert estimate(report, "dm") == pytest.approx(0.25, abs=0.06), model
        assert any(model in note for note in report["notes"])


def test_a_log_that_cannot_tell_exits_with_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(made(60), tmp_path / "short.parquet")
    with pytest.raises(SystemExit) as left:
        main(["ope", str(tmp_path / "short.parquet"), "--policy", "best-of:best"])
    assert left.value.code == 3
    said = capsys.readouterr().out
    assert "NOT IDENTIFIABLE" in said
    assert "What to log:" in said


# --------------------------------------------------------------------------------------------- other tools' logs

FORMATS = Path(__file__).resolve().parents[1] / "intake" / "formats"


def dsjson(path: Path, n: int = 800) -> None:
    rng = np.random.default_rng(1)
    lines = []
    for i in range(n):
        p = [0.7, 0.2, 0.1]
        a = int(rng.choice(3, p=p))
        lines.append(json.dumps({
            "_label_cost": -float(rng.random() < 0.1 * (a + 1)), "_label_probability": p[a], "_label_Action": a + 1,
            "_labelIndex": a, "Timestamp": f"2024-01-01T00:{i // 60 % 60:02}:{i % 60:02}.0000000Z", "Version": "1",
            "EventId": f"e{i}", "a": [a + 1, *[j + 1 for j in range(3) if j != a]],
            "c": {"User": {"age": "young"}, "_multi": [{"id": name} for name in ("x", "y", "z")]},
            "p": [p[a], *[p[j] for j in range(3) if j != a]], "VWState": {"m": "model-1"},
        }))  # fmt: skip
    path.write_text("\n".join(lines))


def test_dsjson_is_read_as_it_is(tmp_path: Path) -> None:
    dsjson(tmp_path / "log.dsjson")
    report = ope(tmp_path / "log.dsjson", policy="uniform")
    assert report["kind"] == "another tool's decisions"
    assert report["verdict"]["name"] == "IDENTIFIABLE"
    assert estimate(report) == pytest.approx(0.2, abs=0.08)


def test_open_bandit_files_are_read_as_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    folder = tmp_path / "random" / "men"
    folder.mkdir(parents=True)
    lines = [",timestamp,item_id,position,click,propensity_score,user_feature_0"]
    for i in range(3_000):
        item = int(rng.integers(5))
        click = int(rng.random() < 0.05)
        lines.append(
            f"{i},2019-11-24 00:{i // 60 % 60:02}:{i % 60:02}.000000+00:00,{item},{1 + i % 3},{click},0.2,u{i % 7}"
        )
    (folder / "men.csv").write_text("\n".join(lines))
    report = ope(folder / "men.csv", policy="logging")
    assert estimate(report) == pytest.approx(report["logged_value"])
    assert report["verdict"]["name"] == "IDENTIFIABLE"


def test_events_with_impressions_are_decisions(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = []
    for i in range(900):
        item = ["x", "y"][int(rng.random() < 0.3)]
        base = {
            "request_id": f"r{i}", "item_id": item, "user_id": f"u{i}", "surface": "home", "experiment": "e=a",
            "happened_at": 1_700_000_000_000_000 + i,
        }  # fmt: skip
        rows.append(base | {"action": "impression", "propensity": 0.7 if item == "x" else 0.3})
        if rng.random() < (0.2 if item == "x" else 0.4):
            rows.append(base | {"action": "click", "propensity": None})
        if rng.random() < 0.05:
            rows.append(base | {"action": "save", "propensity": None})
    path = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    report = ope(path, policy="uniform", reward="click")
    assert report["decisions"] == 900
    assert report["verdict"]["name"] == "UNVERIFIED"
    assert estimate(report) == pytest.approx(0.3, abs=0.06)
    with pytest.raises(DataError, match="the action that counts"):
        ope(path, policy="uniform")


def test_a_workspaces_impressions_are_lists(tmp_path: Path) -> None:
    layout = Layout.create(tmp_path / "shop")
    layout.config.write_text("")
    rng = np.random.default_rng(4)
    shown = SqliteLog(layout.impressions)
    events = SqliteLog(layout.log)
    records, actions, start = [], [], 1_700_000_000_000_000
    for i in range(700):
        first = ["i1", "i2"][int(rng.random() < 0.4)]
        second = "i2" if first == "i1" else "i1"
        row = {
            c.REQUEST_ID: f"r{i}", c.USER_ID: f"u{i % 300}", c.SURFACE: "home", c.HAPPENED_AT: start + i,
            c.POLICY_VERSION: "v1", c.BUILD_ID: "b", c.SHOWN_ITEMS: [first, second], c.STAGE_US: "{}",
            c.SHOWN_PROPENSITIES: [0.6 if first == "i1" else 0.4, 1.0], c.LIST_PROPENSITY: 0.6,
        }  # fmt: skip
        packed = msgspec.msgpack.encode({str(k): v for k, v in row.items()})
        records.append(LogRecord(f"imp:r{i}", "impression", start + i, f"u{i % 300}", packed))
        if rng.random() < (0.3 if first == "i1" else 0.5):
            actions.append(
                EventIn(user_id=f"u{i % 300}", item_id=first, action="click", request_id=f"r{i}", event_id=f"e{i}")
            )
    shown.append(records).result(20)
    events.append(event_records(EventsRequest(actions), 1_800_000_000_000_000)[0]).result(20)
    shown.close()
    events.close()
    policy = tmp_path / "p.csv"
    policy.write_text("chosen,propensity\ni1,0.5\ni2,0.5\n")
    report = ope(tmp_path / "shop", policy="logging")
    assert report["lists"]
    assert report["requests"] == 700
    assert report["units"] == 300
    assert estimate(report, "rips") == pytest.approx(report["logged_value"], abs=1e-9)
    assert report["verdict"]["name"] == "UNVERIFIED"
    # Two items, the second slot gets what is left: only the first slot weighs anything.
    changed = ope(tmp_path / "shop", policy=str(policy), renormalise=True)
    clicked = {event.request_id for event in actions}
    firsts = [msgspec.msgpack.decode(record.payload)["shown_items"][0] for record in records]
    w = np.array([0.5 / (0.6 if first == "i1" else 0.4) for first in firsts])
    r = np.array([float(f"r{i}" in clicked) for i in range(700)])
    assert estimate(changed, "rips") == pytest.approx(float((w * r).sum() / w.sum()), abs=1e-9)


def test_the_overlap_chart_has_a_bar_for_the_log_and_one_for_the_target() -> None:
    shares = [
        {"from_weight": 0.0, "share_of_log": 0.75, "share_of_target": 0.25},
        {"from_weight": 1.0, "share_of_log": 0.25, "share_of_target": 0.75},
    ]
    chart = str(overlap_chart(shares))
    assert chart.count("<rect") == 4
    assert "0 to 1" in chart
    assert "1 and more" in chart
