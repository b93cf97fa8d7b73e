"""What every `EventLog` must hold, whoever wrote it: run it in the log's own tests.

`broken_log_laws(lambda: MyLog(place))` is empty if the log is sound; each line names a broken law.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from honeyguide.contracts import Appended, Erasable, EventLog, LogRecord
from honeyguide.errors import HoneyguideError, ResourceError, TrimmedError

__all__ = ["broken_log_laws"]

_WAIT_S = 60.0


def broken_log_laws(open_log: Callable[[], EventLog], *, seed: int = 0) -> list[str]:
    """The laws that a log breaks, as sentences. `open_log` opens a handle of one log, empty at first, at each call."""
    return list(_broken(open_log, random.Random(seed)))


def _record(key: str, user: str = "u", payload: bytes = b"x") -> LogRecord:
    return LogRecord(key, "event", 1_700_000_000_000_000, user, payload)


def _told(future: Future[Appended]) -> Appended:
    return future.result(_WAIT_S)


def _all(log: EventLog, page: int = 10_000) -> list[tuple[int, LogRecord]]:
    found: list[tuple[int, LogRecord]] = []
    after = log.trimmed()
    while part := log.read(after, page):
        found += part
        after = part[-1][0]
    return found


def _broken(open_log: Callable[[], EventLog], rng: random.Random) -> Iterator[str]:
    log = open_log()
    yield from _order(log, rng)
    yield from _once(log, rng)
    yield from _whole_batches(log)
    yield from _handles(log, open_log)
    yield from _trimming(log, open_log)
    if isinstance(log, Erasable):
        yield from _erasing(log, log)
    yield from _pressure(log)
    log.close()
    log.close()
    yield from _after_closing(log, open_log)


def _order(log: EventLog, rng: random.Random) -> Iterator[str]:
    """Replay from any offset, in pages of any size."""
    if log.head() or log.read(0) or log.trimmed():
        yield "a new log is not empty"
    sent = [_record(f"k{n}", user=f"user {n}", payload=bytes([n])) for n in range(40)]
    at, answers = 0, []
    while at < len(sent):
        size = rng.randint(1, 7)
        answers.append(_told(log.append(sent[at : at + size])))
        at += size
    heads = [answer.head for answer in answers]
    if heads != sorted(set(heads)) or heads[-1] != log.head():
        yield "`Appended.head` does not grow with each append, or is not the log's head"
    found = log.read(0)
    if [record for _, record in found] != sent:
        yield "records do not come back as they were, in their order"
    offsets = [offset for offset, _ in found]
    if offsets != sorted(set(offsets)) or offsets[0] <= 0:
        yield "offsets do not grow"
    for after in (0, *offsets):
        for page in (1, 3, 1000):
            if log.read(after, page) != [pair for pair in found if pair[0] > after][:page]:
                yield f"reading {page} after {after} is not the part of the whole that it should be"
                return
    if log.read(log.head()):
        yield "there is something above the head"


def _once(log: EventLog, rng: random.Random) -> Iterator[str]:
    """At least once in, exactly once in effect."""
    before = _all(log)
    again = [_record(f"k{n}", payload=b"other") for n in rng.sample(range(40), 5)]
    answer = _told(log.append([again[0], _record("new"), again[1], _record("new"), *again[2:]]))
    if answer.duplicates != (0, 2, 3, 4, 5, 6):
        yield f"duplicates of a batch are not named by their places: {answer.duplicates}"
    if [record.key for _, record in _all(log)] != [*(record.key for _, record in before), "new"]:
        yield "a key that was there is stored again, or a new one beside it is not"
    if _told(log.append([_record("new")])) != Appended(log.head(), (0,)):
        yield "sending a whole batch again has an effect"
    if _told(log.append([])) != Appended(log.head(), ()):
        yield "an empty batch is not answered with the head"


def _whole_batches(log: EventLog) -> Iterator[str]:
    before = _all(log)
    bad = [_record("beside 1"), _record("\ud800"), _record("beside 2")]
    try:
        _told(log.append(bad))
        yield "a key that is no text is stored"
    except HoneyguideError:
        if _all(log) != before:
            yield "of a batch that is refused, a part is stored"
        if _told(log.append([_record("beside 1")])).duplicates:
            yield "a key of a batch that was refused counts as known"


def _handles(log: EventLog, open_log: Callable[[], EventLog]) -> Iterator[str]:
    other = open_log()
    if other.id != log.id:
        yield "two handles of one log give it two names"
    _told(other.append([_record("by another")]))
    if log.head() != other.head() or _all(log) != _all(other):
        yield "a handle does not see what another wrote once that is durable"
    if not _told(log.append([_record("by another")])).duplicates:
        yield "a key that another handle wrote is not known"
    other.close()


def _trimming(log: EventLog, open_log: Callable[[], EventLog]) -> Iterator[str]:
    held = _all(log)
    middle = held[len(held) // 2][0]
    trimmed = log.trim(middle)
    if trimmed > middle or trimmed != log.trimmed():
        yield "`trim` goes further than it was told, or does not say how far"
    if _all(log) != [pair for pair in held if pair[0] > trimmed]:
        yield "after `trim` the rest is not what it was, under the offsets it had"
    whole = log.trim(log.head())
    if log.trim(0) != whole or log.trim(log.head() + 1_000) != log.trimmed():
        yield "`trim` is not content with an offset that is behind it or beyond the head"
    if log.trimmed() > 0:
        try:
            log.read(log.trimmed() - 1)
            yield "reading what was trimmed gives a gap and no TrimmedError"
        except TrimmedError:
            pass
    head = log.head()
    if len(_told(log.append([record for _, record in held])).duplicates) != len(held):
        yield "keys of trimmed records are not known any more"
    if _told(log.append([_record("after the trim")])).head <= head:
        yield "offsets are used again after a trim"
    other = open_log()
    if not _told(other.append([held[0][1]])).duplicates or other.trimmed() != log.trimmed():
        yield "a handle that is opened later does not know what was trimmed"
    other.close()


def _erasing(log: EventLog, erasable: Erasable) -> Iterator[str]:
    _told(log.append([_record("a1", "ada"), _record("b1", "bob"), _record("a2", "ada")]))
    before = _all(log)
    if erasable.erase("ada") != 2 or erasable.erase("ada") != 0:
        yield "`erase` does not count the person's records, or finds them twice"
    if _all(log) != [pair for pair in before if pair[1].user_id != "ada"]:
        yield "`erase` takes others along, leaves the person, or moves offsets"


def _pressure(log: EventLog) -> Iterator[str]:
    """Several writers at once, more than a queue may hold: each batch is durable once, or refused as a whole."""
    answers: dict[str, Future[Appended]] = {}

    def write(name: str) -> None:
        for n in range(200):
            answers[f"{name} {n}"] = log.append([_record(f"{name} {n} {i}", payload=bytes(100)) for i in range(20)])

    writers = [threading.Thread(target=write, args=(f"writer {n}",)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    refused = set()
    for name, future in answers.items():
        error = future.exception(_WAIT_S)
        if isinstance(error, ResourceError) and error.http_status == 503:
            refused.add(name)
        elif error is not None:
            yield f"under pressure an append fails with {type(error).__name__} and no ResourceError of status 503"
            return
    stored = [record.key for _, record in _all(log) if record.key.startswith("writer ")]
    expected = {f"{name} {i}" for name in answers if name not in refused for i in range(20)}
    if len(stored) != len(set(stored)) or set(stored) != expected:
        yield "under pressure something acknowledged is lost or doubled, or something refused is stored"


def _after_closing(log: EventLog, open_log: Callable[[], EventLog]) -> Iterator[str]:
    if not isinstance(log.append([_record("too late")]).exception(_WAIT_S), HoneyguideError):
        yield "a closed log takes records"
    again = open_log()
    if any(record.key == "too late" for _, record in _all(again)):
        yield "a closed log stores records"
    again.close()
