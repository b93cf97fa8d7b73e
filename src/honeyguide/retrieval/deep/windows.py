"""Windows over people's lines, in batches of about one length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from honeyguide.contracts import I32, I64

__all__ = ["Windows"]

_HIDDEN = 0.5


class Windows:
    """Every event is a lesson once a pass: lines longer than `length` are cut at places that change with the pass.

    arrays: indptr (people + 1,), item (n,) rows, moments (n, width) rows of what was known just before each event.
    A window that begins with a person's first event is led by row 0, which stands for "nothing yet".
    Facts (columns of `moments` from `facts_from` on) are hidden in half of the steps: of those before the last, a
    question that is asked knows none.
    """

    def __init__(
        self, arrays: Mapping[str, Any], length: int, batch: int, seed: int, facts_from: int, targets: int = 1
    ) -> None:
        self.length, self.batch, self.seed, self.targets = length, batch, seed, targets
        self.indptr: I64 = np.asarray(arrays["indptr"])
        self.item: I32 = np.asarray(arrays["item"])
        self.moments: I32 = np.asarray(arrays["moments"])
        self.facts_from, self.epoch = facts_from, 0
        self._spans: I64 = np.zeros((0, 3), np.int64)

    def batches(self, epoch: int) -> list[I64]:
        """Numbers of windows, a batch each, in the order of this pass."""
        self.epoch = epoch
        random = np.random.default_rng([self.seed, epoch])
        size = np.diff(self.indptr)
        # Steps of a line are numbered 0 (nothing known) to size - 1 (all but the last); a window is `length` of them.
        shift = np.where(size > self.length, random.integers(0, self.length, len(size)), 0)
        count = -(-(size + shift) // self.length)
        line = np.repeat(np.arange(len(size)), count)
        part = np.arange(len(line)) - np.repeat(np.cumsum(count) - count, count)
        first = np.maximum(part * self.length - shift[line], 0)
        last = np.minimum((part + 1) * self.length - shift[line], size[line])
        self._spans = np.stack([line, first, last], axis=1)
        by_length = np.argsort(last - first + random.random(len(line)), kind="stable")
        batches = [by_length[at : at + self.batch] for at in range(0, len(by_length), self.batch)]
        return [batches[n] for n in random.permutation(len(batches))]

    def read(self, batch: I64) -> tuple[I64, I64, I64]:
        """Given (b, l): row + 1 of the item before, 0 for nothing; wanted (b, l): row to come, -1 none; moments (b, l,
        width) of what is wanted."""
        spans = self._spans[batch]
        steps = int((spans[:, 2] - spans[:, 1]).max())
        given, wanted = np.zeros((len(batch), steps), np.int64), np.full((len(batch), steps), -1, np.int64)
        moments = np.zeros((len(batch), steps, self.moments.shape[1]), np.int64)
        random = np.random.default_rng([self.seed, self.epoch, int(batch[0])])
        for n, (line, first, last) in enumerate(spans.tolist()):
            start, end, size = int(self.indptr[line]), int(self.indptr[line + 1]), last - first
            given[n, 0] = 0 if first == 0 else self.item[start + first - 1] + 1
            given[n, 1:size] = self.item[start + first : start + last - 1] + 1
            moments[n, :size] = self.moments[start + first : start + last]
            place = np.arange(start + first, start + last)
            if self.targets > 1:
                place = place + (random.random(size) * np.minimum(self.targets, end - place)).astype(np.int64)
            wanted[n, :size] = self.item[place]
        facts = moments[:, :, self.facts_from :]
        if facts.shape[2]:
            facts[random.random(facts.shape[:2]) < _HIDDEN] = 0
        return given, wanted, moments
