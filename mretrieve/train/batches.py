"""Which examples share a batch, for all steps of a run, from the seed alone.

A run is one long sequence of batches, so that an interrupted one goes on with exactly the batch that comes
next. In a batch of several languages every positive has distractors in its own language and in its
question's (Roy et al., 2020, arXiv:2004.05484, X-Y), so that the language tells nothing.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from mretrieve.errors import InputError
from mretrieve.train.recipe import Part

Languages = tuple[str, str]
"""Of an anchor and its positive."""

_TRIES = 50  # examples looked at for one place in a batch before one that clashes is taken


class Mix(Part):
    """How often examples of each language come.

    A pair of languages with n examples gets the weight n ** `temperature` (1: as the data is, 0: all alike),
    times the `weights` of its positive's language and of its source, 1 where they name none. For the
    `first_share` of all batches only the languages `first` are used: two phases, those with much data first.
    """

    temperature: Annotated[float, Field(ge=0, le=1)] = 0.5
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    first: list[str] = []
    first_share: Annotated[float, Field(ge=0, le=1)] = 0.0


class Batching(Part):
    """What a batch is made of.

    `languages` is `random` (by the mix alone), `same` (one pair of languages in a batch) or `balanced`:
    `per_batch` languages, equally many positives in each, anchors in the same languages; or `parallel`: whole
    groups, of each at most `per_batch` examples with different texts, in whatever languages they are. With
    `length_buckets` above 1 a batch has texts of similar length, by so many quantiles.
    """

    languages: Literal["random", "same", "balanced", "parallel"] = "balanced"
    per_batch: Annotated[int, Field(ge=1)] = 6
    length_buckets: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True)
class Examples:
    """What batches are made by, one entry for each example of a data set."""

    languages: Sequence[Languages]
    sources: Sequence[str]
    groups: Sequence[str]
    anchors: Sequence[str]
    positives: Sequence[str]
    lengths: Sequence[int]


@dataclass
class _Pool:
    """A deck of examples of one pair of languages and one source, shuffled anew at its end."""

    rows: list[int]
    weight: float
    draw: random.Random
    left: list[int] = field(default_factory=list)

    def next(self) -> int:
        if not self.left:
            self.left = self.rows[:]
            self.draw.shuffle(self.left)
        return self.left.pop()

    def put_back(self, row: int) -> None:
        """For later: it clashed with what is in the batch."""
        self.left.insert(self.draw.randrange(len(self.left) + 1), row)


class Batches:
    """Batches of one data set, without end.

    Args:
        examples: of the data set.
        size: examples of a batch.
        batching: what a batch is made of.
        mix: how often languages come.
        seed: the batches are the same for the same one.
        total: how many batches the run takes, for the two phases.

    Raises:
        InputError: there are fewer examples than a batch has, or the mix leaves none.
    """

    def __init__(
        self, examples: Examples, *, size: int, batching: Batching, mix: Mix, seed: int, total: int
    ) -> None:
        if len(examples.languages) < size:
            raise InputError(
                f"A batch of {size} examples cannot be made of {len(examples.languages)}: "
                "lower the batch size, or add data."
            )
        self._examples, self._size, self._batching = examples, size, batching
        self._draw = random.Random(seed)
        self._first = round(mix.first_share * total)
        self._all = _pools(examples, batching.length_buckets, mix, self._draw, only=None)
        self._early = self._all
        if self._first:
            self._early = _pools(examples, batching.length_buckets, mix, self._draw, only=set(mix.first))
        self._made = 0
        # By phase, the examples of each group that its pools have: the mix may leave some out.
        self._members = {id(one): _by_group(one, examples) for one in (self._all, self._early)}

    def __iter__(self) -> Iterator[list[int]]:
        """Rows of batch after batch, without end."""
        makers: dict[str, Callable[[list[_Pools]], list[int]]] = {
            "random": self._random,
            "same": self._same,
            "balanced": self._balanced,
            "parallel": self._parallel,
        }
        make = makers[self._batching.languages]
        while True:
            buckets = self._early if self._made < self._first else self._all
            self._made += 1
            yield make(buckets)

    def _bucket(self, buckets: list["_Pools"]) -> "_Pools":
        return self._draw.choices(buckets, [sum(pool.weight for pool in one.values()) for one in buckets])[0]

    def _random(self, buckets: list["_Pools"]) -> list[int]:
        pools = list(self._bucket(buckets).values())
        batch = _Batch(self._examples)
        while len(batch.rows) < self._size:
            batch.add_from(self._choose(pools))
        return batch.rows

    def _same(self, buckets: list["_Pools"]) -> list[int]:
        pools = self._bucket(buckets)
        by_languages: dict[Languages, list[_Pool]] = defaultdict(list)
        for (languages, _), pool in pools.items():
            by_languages[languages].append(pool)
        # A batch has to find enough different examples, so small pairs of languages are left aside here.
        large = [ps for ps in by_languages.values() if sum(len(p.rows) for p in ps) >= self._size]
        chosen = large or list(by_languages.values())
        same = self._draw.choices(chosen, [sum(pool.weight for pool in ps) for ps in chosen])[0]
        batch = _Batch(self._examples)
        while len(batch.rows) < self._size:
            batch.add_from(self._choose(same))
        return batch.rows

    def _balanced(self, buckets: list["_Pools"]) -> list[int]:
        pools = self._bucket(buckets)
        chosen = self._choose_languages(pools)
        by_positive: dict[str, list[_Pool]] = {language: [] for language in chosen}
        for ((anchor, positive), _), pool in pools.items():
            if positive in by_positive and anchor in by_positive:
                by_positive[positive].append(pool)
        turns = [own for own in by_positive.values() if own]
        batch = _Batch(self._examples)
        while len(batch.rows) < self._size:
            for own in turns[: self._size - len(batch.rows)]:
                batch.add_from(self._choose(own))
        return batch.rows

    def _parallel(self, buckets: list["_Pools"]) -> list[int]:
        pools, members = list(self._bucket(buckets).values()), self._members[id(buckets)]
        rows: list[int] = []
        taken: set[str] = set()
        for _ in range(_TRIES * self._size):
            group = self._examples.groups[self._choose(pools).next()]
            if group not in taken:
                taken.add(group)
                rows += self._different(members[group], self._size - len(rows))
            if len(rows) == self._size:
                return rows
        raise InputError(
            f"A batch of {self._size} examples cannot be made of {len(members)} groups of "
            "examples with different anchors: lower the batch size, or add data."
        )

    def _different(self, group: Sequence[int], left: int) -> list[int]:
        """Examples of a group with different anchors, and as far as it goes different positives."""
        members = self._draw.sample(group, len(group))
        anchors: dict[str, int] = {}
        positives: set[str] = set()
        for fresh in (True, False):
            for row in members:
                anchor, positive = self._examples.anchors[row], self._examples.positives[row]
                if anchor not in anchors and not (fresh and positive in positives):
                    anchors[anchor] = row
                    positives.add(positive)
        return list(anchors.values())[: min(self._batching.per_batch, left)]

    def _choose_languages(self, pools: "_Pools") -> list[str]:
        """Languages by weight, of which each has partners among those chosen.

        The first pair is drawn whole; each further language must be met in a pair with one that is there.
        """
        pairs: dict[Languages, float] = defaultdict(float)
        for (languages, _), pool in pools.items():
            pairs[languages] += pool.weight
        names, weights = list(pairs), list(pairs.values())
        chosen: dict[str, None] = {}
        tries = 0
        while len(chosen) < self._batching.per_batch and tries < _TRIES:
            tries += 1
            pair = self._draw.choices(names, weights)[0]
            new = [language for language in dict.fromkeys(pair) if language not in chosen]
            joins = pair[0] == pair[1] or len(new) < 2 or not chosen or tries > _TRIES // 2
            if new and joins and len(chosen) + len(new) <= max(self._batching.per_batch, 2):
                chosen |= dict.fromkeys(new)
        return list(chosen)

    def _choose(self, pools: Sequence[_Pool]) -> _Pool:
        return self._draw.choices(pools, [pool.weight for pool in pools])[0]


_Pools = dict[tuple[Languages, str], _Pool]
"""By languages and source."""


class _Batch:
    """Rows of one batch, no two of a group and no two of the same anchor as long as there are others."""

    def __init__(self, examples: Examples) -> None:
        self.rows: list[int] = []
        self._examples = examples
        self._taken: set[str] = set()
        self._patience = _TRIES

    def add_from(self, pool: _Pool) -> None:
        """Add the next example that does not clash; when none is found for long, any."""
        row = pool.next()
        keys = {self._examples.groups[row], self._examples.anchors[row]}
        if (keys & self._taken or row in self.rows) and self._patience > 0:
            self._patience -= 1
            pool.put_back(row)
            return
        self._taken |= keys
        self.rows.append(row)


def _by_group(buckets: Sequence[_Pools], examples: Examples) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for row in sorted(row for bucket in buckets for pool in bucket.values() for row in pool.rows):
        found[examples.groups[row]].append(row)
    return found


def _pools(
    examples: Examples, n_buckets: int, mix: Mix, draw: random.Random, *, only: Collection[str] | None
) -> list[_Pools]:
    """For each bucket of length the pools of all pairs of languages and sources, weighted by the mix."""
    rows: dict[tuple[Languages, str], list[int]] = defaultdict(list)
    counts: dict[Languages, int] = defaultdict(int)
    for row, (languages, source) in enumerate(zip(examples.languages, examples.sources, strict=True)):
        if only is None or set(languages) <= set(only):
            rows[languages, source].append(row)
            counts[languages] += 1
    buckets: list[_Pools] = [{} for _ in range(n_buckets)]
    for (languages, source), own in rows.items():
        # The languages' weight is shared among their sources by number of examples.
        share = counts[languages] ** mix.temperature * len(own) / counts[languages]
        share *= mix.weights.get(languages[1], 1.0) * mix.weights.get(source, 1.0)
        own.sort(key=lambda row: examples.lengths[row])
        for number, bucket in enumerate(buckets):
            part = own[number * len(own) // n_buckets : (number + 1) * len(own) // n_buckets]
            if part and share > 0:
                bucket[languages, source] = _Pool(part, share * len(part) / len(own), draw)
    buckets = [bucket for bucket in buckets if bucket]
    if not buckets:
        names = "the languages " + ", ".join(only) if only is not None else "any language"
        raise InputError(f"The mix leaves no examples of {names}: check its weights and `first`.")
    return buckets


def schedule(
    per_step: Mapping[str, int], batches: Mapping[str, Batches], *, steps: int, processes: int
) -> Iterator[tuple[str, list[int]]]:
    """The batches of a run in order: in every step so many of each data set, the same one in all processes.

    Args:
        per_step: batches of each data set in a step.
        batches: of each data set.
        steps: of the optimizer.
        processes: of torchrun; each takes every so manieth batch.

    Yields:
        Name of the data set and rows in it.
    """
    iterators = {name: iter(one) for name, one in batches.items()}
    for _ in range(steps):
        for name, number in per_step.items():
            for _ in range(number * processes):
                yield name, next(iterators[name])
