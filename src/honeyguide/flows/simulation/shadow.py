"""Other policies beside the one that answers: what each would have shown at the same moment, and with what chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from honeyguide.contracts import F64, I32, Pool, Ragged
from honeyguide.evaluation.replay.estimators import Valued
from honeyguide.evaluation.replay.log import DecisionLog, Facts
from honeyguide.evaluation.replay.policy import Target
from honeyguide.evaluation.replay.slates import SlateConfig, evaluate_slates
from honeyguide.flows import answer
from honeyguide.flows.guardrails import prices_of
from honeyguide.flows.live import Live, Surface
from honeyguide.flows.pipeline import Composers
from honeyguide.flows.simulation.arms import Arm
from honeyguide.kernels import world as k
from honeyguide.serving.deadline import Deadline
from honeyguide.slate.compose import Odds, SlateResult
from honeyguide.world.audience import Audience
from honeyguide.world.world import Looked

__all__ = ["FIRSTS", "REWARDS", "Shadow", "Told"]

FIRSTS = (1, 2, 3, 6)
"""First slots that are valued by themselves where a whole list cannot be: what stands below changes nothing above."""
REWARDS = {"clicks": k.CLICKED, "purchases": k.BOUGHT, "saves": k.SAVED}
_PATIENCE_MS = 60_000.0
_ENDED = -1.0
_DRAWS = 2
"""Lists that are drawn of a policy that explores, to know its truth."""


@dataclass
class Told:
    """One list that was shown, and what the other policies say of it."""

    request_id: str
    user: int
    shown: I32  # (m,)
    propensity: F64  # (m,)
    odds: Odds  # of the policy that showed it
    others: list[F64]  # per other policy (pairs,) its chances of what `odds` holds
    elsewhere: list[F64]  # per other policy (m,) its chance of anything else, `_ENDED` where its list has ended
    truth: F64  # (policies, depths, 3) expected clicks, purchases, joy; the first is the list as shown
    did: Any = None  # (m,) bits of `kernels.world`


@dataclass
class Shadow:
    """Watches a policy at work.

    slots: of a whole list. most: lists that are kept, the first ones. firsts: depths that are valued by themselves.
    """

    slots: int
    most: int = 50_000
    firsts: tuple[int, ...] = FIRSTS
    lists: list[Told] = field(default_factory=list)

    def attach(self, first: Arm, others: Sequence[Arm], audience: Audience) -> None:
        """Begin to watch (again, after another build was loaded)."""
        self._arms, self._audience, self._base = list(others), audience, first.live
        self._lives: list[Live | None] = []
        self._composers: dict[tuple[int, str], tuple[object, Composers]] = {}
        for arm in others:
            same = arm.layout is first.layout and _only_slates(first.live, arm)
            self._lives.append(None if same else arm.live)
        self._row_of: I32 = np.zeros(0, np.int32)
        self._waiting: dict[str, Told] = {}
        first.live.watch = self.watch
        audience.seen = self.seen

    # -------------------------------------------------------------------------------------------------- watching

    def watch(self, surface: Surface, ask: answer.Ask, pool: Pool, scores: F64 | None, slate: SlateResult) -> None:
        """One list, as it is about to be shown (`flows.live.Watch`)."""
        if self._audience.asking is None or scores is None or len(self.lists) >= self.most or not len(slate.rows):
            return
        visit, at = self._audience.asking
        given: dict[str, Any] = {"k": ask.request.k, "filters": ask.request.filters}
        own = surface.composers.of(ask.kind).odds(
            pool.items[0], slate.rows, scores=scores, blend=pool.blend[0], seen=ask.seen, moment=ask.moment, **given
        )
        truth = np.zeros((1 + len(self._arms), len(self.depths), 3))
        truth[0] = self._truth(visit, at, slate.rows)
        others, elsewhere = [], []
        for n, live in enumerate(self._lives):
            moment = ask.moment
            if live is None:
                composer, seen = self._composer(n, surface).of(ask.kind), ask.seen
                items, blend, heads = pool.items[0], pool.blend[0], scores
            else:
                live.catch_up()
                their = live.surfaces[ask.request.surface]
                asked = answer.resolve(live, their, ask.request)
                found = answer.retrieve(live, their, asked)
                heads = answer.rank(live, their, asked, found, Deadline(_PATIENCE_MS))
                seen, items, blend = asked.seen, found.items[0], found.blend[0]
                moment = asked.moment
                composer = their.composers.of(asked.kind)
            odds = composer.odds(items, slate.rows, scores=heads, blend=blend, seen=seen, moment=moment, **given)
            chance, rest = _aligned(own, odds, slate.rows)
            others.append(chance)
            elsewhere.append(rest)
            draws = _DRAWS if composer.explorer.config.draws else 1
            for draw in range(draws):
                drawn = composer.compose(
                    items,
                    scores=heads,
                    blend=blend,
                    seen=seen,
                    moment=moment,
                    request_id=f"{ask.request_id}~{n}~{draw}",
                    **given,
                )
                truth[1 + n] += self._truth(visit, at, drawn.rows) / draws
        self._waiting[ask.request_id] = Told(
            ask.request_id, visit.user, slate.rows, slate.propensity, own, others, elsewhere, truth
        )

    def seen(self, request_id: str, looked: Looked) -> None:
        """What became of a list."""
        told = self._waiting.pop(request_id, None)
        if told is not None:
            told.did = looked.did
            self.lists.append(told)

    def _truth(self, visit: Any, at: int, rows: I32) -> F64:
        """(depths, 3) what was to be expected of the first slots."""
        vocabulary = self._base.catalog.items
        if len(self._row_of) < len(vocabulary):
            self._row_of = np.asarray(self._audience.rows(vocabulary.ids), np.int32)
        world, items = self._audience.world, self._row_of[rows]
        items = items[items >= 0]
        return np.array([world.would(visit, items[:depth], at) for depth in self.depths])

    @property
    def depths(self) -> tuple[int, ...]:
        """First slots that are known by themselves; the last is the whole list."""
        return (*(depth for depth in self.firsts if depth < self.slots), self.slots)

    def _composer(self, n: int, surface: Surface) -> Composers:
        """Of a policy that shares the scores of the one that answers."""
        key, base = (n, surface.name), self._base
        kept = self._composers.get(key)
        if kept is None or kept[0] is not base.catalog:
            known = base.config.head_names
            config = self._arms[n].policy(base.config).surfaces[surface.name]
            kept = (
                base.catalog,
                base.pipeline.composers(
                    config, known, base.catalog, prices=prices_of(base.manifest.guarded, surface.name, config)
                ),
            )
            self._composers[key] = kept
        return kept[1]

    # --------------------------------------------------------------------------------------------------- valuing

    def value(self, other: int, reward: str, *, depth: int | None = None, level: float = 0.95) -> Valued:
        """Off-policy value of a policy, per list: rewards of the first `depth` slots (None: all)."""
        log, chances, rest = self.decisions(other, reward, depth)
        target = Target("changed", chances, rest)
        config = SlateConfig(estimators=("rips", "sips"), reward_range=(0.0, 1.0), level=level)
        return evaluate_slates(log, target, config)

    def truth(self, policy: int, depth: int | None = None) -> F64:
        """(3,) mean over the lists of the clicks, purchases and joy to be expected; policy 0 is the list as shown."""
        place = -1 if depth is None else self.depths.index(depth)
        mean: F64 = np.mean([told.truth[policy, place] for told in self.lists], axis=0)
        return mean

    def decisions(self, other: int, reward: str, depth: int | None = None) -> tuple[DecisionLog, F64, F64]:
        """The lists as a log of decisions; and another policy's chances of what was offered, and of anything else."""
        most = self.slots if depth is None else depth
        lists = [told for told in self.lists if len(told.shown)]
        sizes = np.array([min(len(told.shown), most) for told in lists])
        n = int(sizes.sum())
        ends = [int(told.odds.start[size]) for told, size in zip(lists, sizes.tolist(), strict=True)]
        offered = np.concatenate([told.odds.rows[:end] for told, end in zip(lists, ends, strict=True)])
        p0 = np.concatenate([told.odds.chance[:end] for told, end in zip(lists, ends, strict=True)])
        p1 = np.concatenate([told.others[other][:end] for told, end in zip(lists, ends, strict=True)])
        lengths = np.concatenate([np.diff(told.odds.start)[:s] for told, s in zip(lists, sizes.tolist(), strict=True)])
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        chosen = np.concatenate([told.shown[:s] for told, s in zip(lists, sizes.tolist(), strict=True)])
        bit = REWARDS[reward]
        did = np.concatenate([told.did[:s] for told, s in zip(lists, sizes.tolist(), strict=True)])
        rest = np.concatenate([told.elsewhere[other][:s] for told, s in zip(lists, sizes.tolist(), strict=True)])
        decision = np.repeat(np.arange(n), lengths)
        hit = np.flatnonzero(offered == chosen[decision])
        place = np.zeros(n, np.int64)
        place[decision[hit]] = hit
        actions, codes = np.unique(offered, return_inverse=True)
        starts = np.cumsum(sizes) - sizes
        people, unit = np.unique([told.user for told in lists], return_inverse=True)
        ids = self._base.catalog.items
        log = DecisionLog(
            actions=[ids.id(int(row)) for row in actions],
            chosen=codes[place].astype(np.int32),
            reward=((did & bit) > 0) * (rest != _ENDED).astype(np.float64),
            propensity=p0[place],
            offered=Ragged(indptr, codes.astype(np.int32)),
            place=place,
            probabilities=p0,
            request=np.repeat(np.arange(len(lists)), sizes),
            request_ids=[told.request_id for told in lists],
            position=(np.arange(n) - np.repeat(starts, sizes) + 1).astype(np.int32),
            unit=np.repeat(unit.astype(np.int64), sizes),
            n_units=len(people),
            at=None,
            context=np.full(n, -1, np.int32),
            contexts=[],
            facts=Facts({}, {}),
            notes=(),
        )
        return log, p1, np.where(rest > 1e-9, rest, 0.0)


def _aligned(own: Odds, other: Odds, shown: I32) -> tuple[F64, F64]:
    """The other policy's chances of what is in `own`, and by slot of what is not.

    A list that the other policy ends above a slot earns nothing there, whatever is shown: the slot keeps the weight of
    those above (so the chances are the own ones), and `_ENDED` says that its reward does not count. After slots that
    the other policy would never show nothing is asked of it.
    """
    chance = np.zeros(len(own.rows))
    slots = len(own.start) - 1
    rest = np.zeros(slots)
    reached = True
    for slot in range(slots):
        mine = slice(int(own.start[slot]), int(own.start[slot + 1]))
        theirs = slice(int(other.start[slot]), int(other.start[slot + 1]))
        if theirs.start == theirs.stop:
            chance[mine] = own.chance[mine]
            rest[slot] = _ENDED
            continue
        same = own.rows[mine, None] == other.rows[None, theirs]
        chance[mine] = same @ other.chance[theirs]
        if reached:
            rest[slot] = max(1.0 - chance[mine].sum(), 0.0)
        reached = reached and bool(chance[mine][own.rows[mine] == shown[slot]].sum() > 0)
    return chance, rest


def _only_slates(base: Live, arm: Arm) -> bool:
    """Whether a policy differs from the one that answers in what it does with the scores alone."""
    if arm.apart:
        return False
    changed = arm.policy(base.config)
    for name, surface in base.config.surfaces.items():
        theirs = changed.surfaces[name]
        mine = surface.model_copy(update={"slate": theirs.slate})
        if mine != theirs or surface.slate.rules.hide_seen != theirs.slate.rules.hide_seen:
            return False
        # Where one asks the heads and the other does not, there are no scores to share.
        asks = [bool(one.slate.heads) or one.slate.explore.reads_heads for one in (surface, theirs)]
        if asks[0] != asks[1]:
            return False
        # New items that join the candidates are no part of what both would look at.
        joining = [(one.slate.explore.new_candidates, one.slate.explore.new_below) for one in (surface, theirs)]
        if joining[0] != joining[1] and (joining[0][0] or joining[1][0]):
            return False
    return True
