"""Server-made keys: unique, ordered, also over threads and forks."""

from __future__ import annotations

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

from honeyguide.engines.log.keys import time_key


def test_keys_sort_as_they_were_made_and_tell_the_time() -> None:
    before = time.time_ns() // 1000
    keys = [time_key() for _ in range(20_000)]
    after = time.time_ns() // 1000
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    assert all(re.fullmatch(r"[0-9a-f]{32}", key) for key in keys)
    assert before <= int(keys[0][:13], 16) <= int(keys[-1][:13], 16) <= after


def test_threads_never_draw_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        drawn = [key for keys in pool.map(lambda _: [time_key() for _ in range(5_000)], range(8)) for key in keys]
    assert len(set(drawn)) == 40_000


def test_a_forked_child_draws_its_own() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, time_key().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 32).decode()[-11:] != time_key()[-11:]
    os.close(reading)
    os.close(writing)
