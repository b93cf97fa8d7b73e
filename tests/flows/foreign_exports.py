"""A small shop's log as every foreign tool would export it: two tastes, some hundred lists as shown, some clicks."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PEOPLE, ITEMS, LISTS, SLOTS = 40, 30, 260, 4
START = 1_735_689_600


@dataclass(frozen=True)
class Shown:
    """A list of items as one person saw it, and what was clicked."""

    number: int
    user: str
    at: int
    items: list[str]
    clicked: str | None
    chances: list[float]  # of each item in the first slot


def shop() -> list[Shown]:
    """The log: people of either taste click what suits them."""
    rng = np.random.default_rng(3)
    lists = []
    for number in range(LISTS):
        person = int(rng.integers(PEOPLE))
        picked = rng.choice(ITEMS, SLOTS, replace=False)
        liked = [int(item) for item in picked if item % 2 == person % 2]
        clicked = f"i{liked[0]}" if liked and rng.random() < 0.8 else None
        items = [f"i{item}" for item in picked]
        lists.append(Shown(number, f"u{person}", START + 3600 * number, items, clicked, [0.4, 0.3, 0.2, 0.1]))
    return lists


def _iso(at: int) -> str:
    return str(np.datetime64(at, "s")) + "Z"


def _jsonl(path: Path, records: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def _csv(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _title(item: int) -> str:
    return f"{['Oak', 'Steel'][item % 2]} lamp {item}"


def metarank(folder: Path) -> None:
    records: list[Any] = [
        {"event": "item", "id": f"m{n}", "timestamp": str(START * 1000), "item": f"i{n}",
         "fields": [{"name": "title", "value": _title(n)}, {"name": "price", "value": 5.0 + n}]}
        for n in range(ITEMS)
    ]  # fmt: skip
    for one in shop():
        records.append({"event": "ranking", "id": f"r{one.number}", "timestamp": str(one.at * 1000), "user": one.user,
                        "items": [{"id": item} for item in one.items]})  # fmt: skip
        if one.clicked:
            records.append({"event": "interaction", "id": f"c{one.number}", "ranking": f"r{one.number}",
                            "timestamp": str(one.at * 1000 + 9000), "user": one.user, "type": "click",
                            "item": one.clicked})  # fmt: skip
    _jsonl(folder / "events.jsonl", records)


def retail(folder: Path) -> None:
    events: list[Any] = []
    for one in shop():
        products = [{"product": {"id": item}} for item in one.items]
        events.append({"eventType": "search", "visitorId": one.user, "eventTime": _iso(one.at), "searchQuery": "lamp",
                       "attributionToken": f"t{one.number}", "productDetails": products})  # fmt: skip
        if one.clicked:
            events.append({"eventType": "detail-page-view", "visitorId": one.user, "eventTime": _iso(one.at + 9),
                           "attributionToken": f"t{one.number}",
                           "productDetails": [{"product": {"id": one.clicked}}]})  # fmt: skip
    _jsonl(folder / "user_events.jsonl", events)
    _jsonl(
        folder / "products.jsonl",
        ({"id": f"i{n}", "title": _title(n), "categories": [["Wood", "Metal"][n % 2]], "availability": "IN_STOCK",
          "priceInfo": {"price": 5.0 + n, "currencyCode": "EUR"}} for n in range(ITEMS)),
    )  # fmt: skip


def personalize(folder: Path) -> None:
    rows = [[one.user, one.clicked, one.at, "click", "|".join(one.items)] for one in shop() if one.clicked]
    _csv(folder / "interactions.csv", ["USER_ID", "ITEM_ID", "TIMESTAMP", "EVENT_TYPE", "IMPRESSION"], rows)
    _csv(folder / "items.csv", ["ITEM_ID", "GENRES"], ([f"i{n}", ["Wood", "Metal"][n % 2]] for n in range(ITEMS)))
    _csv(folder / "users.csv", ["USER_ID", "AGE"], ([f"u{n}", 20 + n] for n in range(PEOPLE)))


def dsjson(folder: Path) -> None:
    rng = np.random.default_rng(4)
    drawn = [(one, int(rng.choice(SLOTS, p=one.chances))) for one in shop()]
    _jsonl(
        folder / "log.dsjson",
        (
            {"_label_cost": -1.0 if one.clicked == one.items[at] else 0.0, "_label_probability": one.chances[at],
             "_label_Action": at + 1, "_labelIndex": at, "Timestamp": _iso(one.at), "EventId": f"e{one.number}",
             "a": [1, 2, 3, 4], "p": one.chances, "VWState": {"m": "m1"},
             "c": {"User": {"id": one.user}, "_multi": [{"_tag": item} for item in one.items]}}
            for one, at in drawn
        ),
    )  # fmt: skip


def open_bandit(folder: Path) -> None:
    header = ["", "timestamp", "item_id", "position", "click", "propensity_score", "user_feature_0", "user_feature_1"]
    rows = [
        [at, f"{np.datetime64(one.at, 's')}+00:00", one.items[slot][1:], slot + 1, int(one.clicked == one.items[slot]),
         1 / ITEMS, f"{one.user}-a", f"{one.user}-b"]
        for at, (one, slot) in enumerate((one, slot) for one in shop() for slot in range(3))
    ]  # fmt: skip
    _csv(folder / "random" / "men" / "men.csv", header, rows)
    context = ([n, n, ["x", "y"][n % 2]] for n in range(ITEMS))
    _csv(folder / "random" / "men" / "item_context.csv", ["", "item_id", "item_feature_0"], context)


def gorse(folder: Path) -> None:
    feedback = []
    for one in shop():
        acted = [("read", item) for item in one.items] + ([("like", one.clicked)] if one.clicked else [])
        feedback += [{"FeedbackType": kind, "UserId": one.user, "ItemId": item, "Value": 1,
                      "Timestamp": _iso(one.at)} for kind, item in acted]  # fmt: skip
    _jsonl(folder / "feedback.jsonl", feedback)
    _jsonl(
        folder / "items.jsonl",
        ({"ItemId": f"i{n}", "IsHidden": False, "Categories": ["lamps"], "Timestamp": _iso(START),
          "Labels": {"title": _title(n)}, "Comment": ""} for n in range(ITEMS)),
    )  # fmt: skip
    _jsonl(folder / "users.jsonl", ({"UserId": f"u{n}", "Labels": {"city": "Bergen"}} for n in range(PEOPLE)))


def ubi(folder: Path) -> None:
    lists = shop()
    _jsonl(
        folder / "ubi_queries.jsonl",
        ({"query_id": f"q{one.number}", "user_query": "lamp", "client_id": one.user, "timestamp": _iso(one.at),
          "query_response_hit_ids": one.items} for one in lists),
    )  # fmt: skip
    _jsonl(
        folder / "ubi_events.jsonl",
        ({"action_name": "click", "query_id": f"q{one.number}", "client_id": one.user, "timestamp": _iso(one.at + 9),
          "event_attributes": {"object": {"object_id": one.clicked}}} for one in lists if one.clicked),
    )  # fmt: skip


def recbole(folder: Path) -> None:
    rows = [f"{one.user}\t{item}\t{5 if item == one.clicked else 2}\t{one.at + n}"
            for one in shop() for n, item in enumerate(one.items)]  # fmt: skip
    (folder / "lamps.inter").write_text(
        "\n".join(["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows]) + "\n"
    )
    items = [f"i{n}\t{_title(n)}\t{['Wood', 'Metal'][n % 2]}" for n in range(ITEMS)]
    (folder / "lamps.item").write_text("\n".join(["item_id:token\ttitle:token_seq\tclass:token_seq", *items]) + "\n")
    people = [f"u{n}\t{'FM'[n % 2]}" for n in range(PEOPLE)]
    (folder / "lamps.user").write_text("\n".join(["user_id:token\tgender:token", *people]) + "\n")


EXPORTS: dict[str, Callable[[Path], None]] = {
    "metarank": metarank, "retail": retail, "personalize": personalize, "dsjson": dsjson, "open_bandit": open_bandit,
    "gorse": gorse, "ubi": ubi, "recbole": recbole,
}  # fmt: skip
