"""What mining found, dropped and kept: counts by language, and samples to read."""

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mretrieve.mine.candidates import Candidate, Candidates, Triple
from mretrieve.types import Query

SAMPLES = 5
"""Samples of each kind."""

_TEXT_CHARACTERS = 300
_KEPT = "kept as negatives"

Sample = dict[str, Any]


@dataclass
class MiningReport:
    """Counts and samples; the same whether the work was interrupted or not.

    Attributes:
        settings: what was mined, from what, and how.
        counts: language of the query -> name -> number. Among the names are the reasons of drops.
        sums: language of the query -> name -> sum of scores, for means.
        samples: kind -> samples; those whose lots are lowest, so not the first of the file.
    """

    settings: Mapping[str, object]
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    sums: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(_zeros))
    samples: dict[str, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def add(self, sifted: Sequence[Candidates], triples: Sequence[Triple], per_query: int) -> None:
        """Count a chunk of queries.

        Args:
            sifted: what was dropped of their candidates and what is left, one record for each positive.
            triples: what was chosen.
            per_query: negatives that were wanted.
        """
        for lang, _ in {(one.query.lang, one.query.query_id) for one in sifted}:
            self.counts[lang]["queries"] += 1
        for one in sifted:
            self._add_sifted(one)
        for triple in triples:
            self._add_triple(triple, per_query)

    def _add_sifted(self, one: Candidates) -> None:
        assert one.positive is not None
        counts, sums = self.counts[one.query.lang], self.sums[one.query.lang]
        counts["pairs"] += 1
        counts["candidates"] += len(one.found) + len(one.dropped) + (one.positive.rank > 0)
        counts["positives found"] += one.positive.rank > 0
        counts["positives found first"] += one.positive.rank == 1
        counts["left"] += len(one.found)
        counts["pairs without negatives"] += not one.found
        if not math.isnan(one.positive.score):
            sums["positive score"] += one.positive.score
        for dropped in one.dropped:
            counts[dropped.reason] += 1
            self._sample(dropped.reason, one.query, one.positive, dropped.candidate)
        if not one.positive.rank:
            self._sample("positive not found", one.query, one.positive, *one.found[:1])

    def _add_triple(self, triple: Triple, per_query: int) -> None:
        counts, sums = self.counts[triple.query.lang], self.sums[triple.query.lang]
        counts["triples"] += 1
        counts["triples with fewer negatives"] += len(triple.negatives) < per_query
        for negative in triple.negatives:
            own = negative.document.lang == triple.query.lang
            counts["negatives"] += 1
            counts["negatives in the query's language"] += own
            if not math.isnan(negative.score):
                sums["negative score"] += negative.score
        self._sample(_KEPT, triple.query, triple.positive, *triple.negatives[:3])

    def _sample(self, kind: str, query: Query, positive: Candidate, *others: Candidate) -> None:
        names = [kind, query.query_id, positive.document.doc_id, *(c.document.doc_id for c in others)]
        lot = hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
        samples = self.samples[kind]
        if len(samples) == SAMPLES and lot >= samples[-1]["lot"]:
            return
        sample = {
            "lot": lot,
            "query_id": query.query_id,
            "query": query.text,
            "query_lang": query.lang,
            "positive": _shown(positive),
            "candidates": [_shown(candidate) for candidate in others],
        }
        self.samples[kind] = sorted([*samples, sample], key=lambda one: str(one["lot"]))[:SAMPLES]

    @property
    def total(self) -> Counter[str]:
        """Counts of all languages together."""
        total: Counter[str] = Counter()
        for counts in self.counts.values():
            total.update(counts)
        return total

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "settings": dict(self.settings),
            "total": dict(sorted(self.total.items())),
            "languages": {
                lang: {**dict(sorted(counts.items())), **self._means(lang)}
                for lang, counts in sorted(self.counts.items())
            },
            "samples": {kind: self.samples[kind] for kind in sorted(self.samples)},
        }

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on counting."""
        return {"counts": self.counts, "sums": self.sums, "samples": self.samples}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.counts.update({lang: Counter(counts) for lang, counts in state["counts"].items()})
        for lang, sums in state["sums"].items():
            self.sums[lang].update(sums)
        self.samples.update({kind: list(samples) for kind, samples in state["samples"].items()})

    def _means(self, lang: str) -> dict[str, float | None]:
        counts, sums = self.counts[lang], self.sums[lang]
        return {
            "mean positive score": _mean(sums["positive score"], counts["pairs"]),
            "mean negative score": _mean(sums["negative score"], counts["negatives"]),
        }

    def to_json(self) -> bytes:
        """The report as it is written."""
        return (json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n").encode()


def _zeros() -> dict[str, float]:
    return defaultdict(float)


def _mean(total: float, number: int) -> float | None:
    return round(total / number, 4) if number else None


def _shown(candidate: Candidate) -> Sample:
    text = candidate.document.contents
    return {
        "doc_id": candidate.document.doc_id,
        "lang": candidate.document.lang,
        "source": candidate.source,
        "rank": candidate.rank or None,
        "score": None if math.isnan(candidate.score) else round(candidate.score, 4),
        "text": text if len(text) <= _TEXT_CHARACTERS else text[:_TEXT_CHARACTERS].rstrip() + " …",
    }
