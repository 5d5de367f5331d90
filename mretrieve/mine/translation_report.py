"""What a translation came to: by languages, with what could not be translated."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

EXAMPLES = 20
"""Texts named of those that could not be translated."""

Outcome = Literal["translated", "in the language already", "not translated", "no such pair", "left out"]

_TEXT_CHARACTERS = 200


@dataclass
class TranslationReport:
    """Counts of records (documents and queries) by languages.

    Attributes:
        engine: the translator's name.
        versions: `en-de` -> version of the engine for that pair.
        counts: `en-de` -> outcome -> records.
        reused: texts that stood in the cache before.
        examples: records that could not be translated: id, languages and the start of the text.
    """

    engine: str
    versions: dict[str, str] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reused: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, identifier: str, text: str, source: str, target: str, outcome: Outcome) -> None:
        """Count one record."""
        self.counts[f"{source or '?'}-{target}"][outcome] += 1
        if outcome == "not translated" and len(self.examples) < EXAMPLES:
            self.examples.append(
                {"id": identifier, "from": source, "to": target, "text": text[:_TEXT_CHARACTERS]}
            )

    def total(self, outcome: Outcome) -> int:
        """Records of one outcome, in all languages."""
        return sum(counts[outcome] for counts in self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        counts: Mapping[str, Mapping[str, int]] = {
            pair: dict(sorted(some.items())) for pair, some in sorted(self.counts.items())
        }
        return {
            "engine": self.engine,
            "versions": dict(sorted(self.versions.items())),
            "records": counts,
            "not translated": self.examples,
        }

    def to_json(self) -> bytes:
        """The report as it is written."""
        return (json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n").encode()
