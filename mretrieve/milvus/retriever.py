"""Answers queries from a collection in Milvus, which searches and fuses by itself."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.milvus.address import parse_milvus_address
from mretrieve.milvus.analysis import analyzer_name, query_terms
from mretrieve.milvus.build import UNKNOWN
from mretrieve.milvus.store import MilvusStore, search_parameters
from mretrieve.rank.fusion import Fusion
from mretrieve.rank.queries import check_mode, check_queries, query_languages
from mretrieve.rank.rerank import Reranker, candidates, rerank_hits
from mretrieve.rank.retriever import DEPTH
from mretrieve.types import Hit, Mode, Query

MOST = 16_384
"""Documents that Milvus gives for a query, at most."""

_FIELDS = ["doc_id", "title", "text", "lang"]


class MilvusRetriever:
    """Searches one collection of Milvus, as `Retriever` searches a folder; to be closed.

    BM25 looks at the documents in the query's language; where there are none, the dense leg answers alone.

    Args:
        address: see `mretrieve.milvus.address`.
        model: the encoder, where it has moved; by default the one that the collection was made with.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`.
        fusion: `rrf` or `rrf:K`; Milvus computes it.

    Raises:
        InputError: there is no such collection, the model is not the one that it was made with, or Milvus
            cannot join in that way.
        MissingDependencyError: pymilvus is not installed.
    """

    def __init__(
        self,
        address: str | Path,
        *,
        model: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        fusion: str | None = None,
    ) -> None:
        self.address = parse_milvus_address(address)
        self.fusion = Fusion.parse(fusion or "rrf:60")
        if self.fusion.method != "rrf":
            raise InputError(f"Milvus cannot join its legs by '{fusion}': give --fusion rrf:K, or nothing.")
        if self.address.is_lite and not Path(self.address.uri).exists():
            raise InputError(f"There is no file {self.address.uri}: make it with `mretrieve index` first.")
        self.store = MilvusStore(self.address)
        try:
            self.about = self.store.about()
            self.store.load()
            self.encoder = Encoder.of_index(self.about.encoder, model=model, device=device, dtype=dtype)
        except BaseException:
            self.close()
            raise
        self._is_checked = False

    def close(self) -> None:
        """End the connection, and let go of the file."""
        with suppress(Exception):  # nothing depends on what is closed
            self.store.close()

    def __enter__(self) -> "MilvusRetriever":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        mode: Mode | None = None,
        lang: str | None = None,
        reranker: Reranker | None = None,
    ) -> list[Hit]:
        """Find the best documents for a query; arguments as those of `Retriever.search`."""
        depth = candidates(top_k, reranker)
        hits = self.rank([Query("1", query, lang or "")], top_k=depth, mode=mode)[0]
        return hits if reranker is None else rerank_hits(reranker, query, hits, top_k=top_k)

    def rank(
        self,
        queries: Sequence[Query],
        *,
        top_k: int = 100,
        mode: Mode | None = None,
        languages: Collection[str] | None = None,
        vectors: NDArray[np.float32] | None = None,
    ) -> list[list[Hit]]:
        """Find the best documents for each query; `lang` is detected where it is empty.

        Args:
            queries: what is asked.
            top_k: documents per query.
            mode: `hybrid` by default.
            languages: of the documents to find, all by default; a query in none of them is answered by the
                dense leg alone.
            vectors: (n, dim) float32, the queries' embeddings where they are known already.

        Raises:
            InputError: a query is empty, an argument is out of range, or Milvus refuses.
            MissingDependencyError: Lucene, which cuts the queries for Milvus Lite, is not installed.
        """
        mode = mode or "hybrid"
        self.check(queries, top_k, mode)
        among = None if languages is None else {normalize_language(code) or UNKNOWN for code in languages}
        asked_in = query_languages(queries) if mode != "dense" else [""] * len(queries)
        if mode == "bm25":
            vectors = None
        elif vectors is None:
            vectors = self.encode(queries)
        together = defaultdict(list)  # Milvus takes one filter for all queries of a call
        for number, lang in enumerate(asked_in):
            together[lang].append(number)
        found: list[list[Hit]] = [[] for _ in queries]
        for lang, numbers in together.items():
            some = None if vectors is None else vectors[numbers]
            texts = [queries[number].text for number in numbers]
            rows = self._ask(texts, some, _Wanted(mode, top_k, lang, among))
            for number, one in zip(numbers, rows, strict=True):
                found[number] = list(_hits(one, mode))
        return found

    def rank_ids(
        self, queries: Sequence[Query], *, top_k: int = 100, mode: Mode | None = None
    ) -> list[list[tuple[str, float]]]:
        """Ids and scores alone, as `rank` finds them: what runs are made of."""
        return [
            [(hit.doc_id, hit.score) for hit in one] for one in self.rank(queries, top_k=top_k, mode=mode)
        ]

    def check(self, queries: Sequence[Query], top_k: int, mode: str) -> None:
        """Make sure that queries can be answered, before any work is done for them.

        Raises:
            InputError: as `rank`.
        """
        check_mode(mode)
        if not 1 <= top_k <= MOST:
            raise InputError(f"top_k is {top_k}, but Milvus gives from 1 to {MOST:,} documents.")
        check_queries(queries)

    def encode(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """(n, dim) float32: embeddings of queries.

        Raises:
            InputError: the model's weights are not those that the collection was made with.
        """
        made_by = self.about.encoder
        if not self._is_checked and self.encoder.fingerprint != made_by.fingerprint:
            raise InputError(
                f"{self.address} was made with {made_by.model} (fingerprint {made_by.fingerprint[:12]}), not "
                f"with {self.encoder.name} ({self.encoder.fingerprint[:12]}): search with those weights."
            )
        self._is_checked = True
        return self.encoder.encode_queries([query.text for query in queries])

    def _ask(self, texts: list[str], vectors: NDArray[np.float32] | None, want: "_Wanted") -> list[list[Any]]:
        """Rows of Milvus for queries of one language."""
        if want.mode == "dense":
            assert vectors is not None
            return self._search_dense(vectors, want)
        is_looked_at = want.among is None or (want.lang or UNKNOWN) in want.among
        terms = [query_terms(text, want.lang, self.about.analysis) if is_looked_at else "" for text in texts]
        worded = [number for number, one in enumerate(terms) if one]
        rows: list[list[Any]] = [[] for _ in texts]
        if worded:
            some = None if vectors is None else vectors[worded]
            found = self._search_terms([terms[number] for number in worded], some, want)
            for number, one in zip(worded, found, strict=True):
                rows[number] = one
        wordless = [number for number, one in enumerate(terms) if not one]
        if vectors is not None and wordless:
            for number, one in zip(wordless, self._search_dense(vectors[wordless], want), strict=True):
                rows[number] = one
        return rows

    def _search_dense(self, vectors: NDArray[np.float32], want: "_Wanted") -> list[list[Any]]:
        parameters = search_parameters(self.about.index_type, want.top_k)
        with self.store.errors():
            return list(
                self.store.client.search(
                    self.store.name,
                    data=list(vectors),
                    anns_field="dense",
                    filter=want.filter,
                    limit=want.top_k,
                    search_params={"metric_type": "IP", "params": parameters},
                    output_fields=_FIELDS,
                )
            )

    def _search_terms(
        self, terms: list[str], vectors: NDArray[np.float32] | None, want: "_Wanted"
    ) -> list[list[Any]]:
        """By words alone, or with vectors by both."""
        from pymilvus import AnnSearchRequest, RRFRanker

        own = f'lang == "{want.lang or UNKNOWN}"'
        bm25: dict[str, Any] = {"metric_type": "BM25", "params": {}}
        if self.about.analysis == "server":
            bm25["analyzer_name"] = analyzer_name(want.lang)
        client, name = self.store.client, self.store.name
        with self.store.errors():
            if vectors is None:
                return list(
                    client.search(
                        name,
                        data=terms,
                        anns_field="bm25",
                        filter=own,
                        limit=want.top_k,
                        search_params=bm25,
                        output_fields=_FIELDS,
                    )
                )
            depth = max(want.top_k, DEPTH)
            dense = {"metric_type": "IP", "params": search_parameters(self.about.index_type, depth)}
            requests = [
                AnnSearchRequest(
                    data=list(vectors),
                    anns_field="dense",
                    param=dense,
                    limit=depth,
                    expr=want.filter or None,
                ),
                AnnSearchRequest(data=terms, anns_field="bm25", param=bm25, limit=depth, expr=own),
            ]
            ranker = RRFRanker(int(self.fusion.parameter))
            found = client.hybrid_search(
                name, requests, ranker=ranker, limit=want.top_k, output_fields=_FIELDS
            )
            return list(found)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is asked of Milvus: `lang` is that of the queries, `among` those of the documents (None: all)."""

    mode: Mode
    top_k: int
    lang: str
    among: Collection[str] | None

    @property
    def filter(self) -> str:
        """In the language of Milvus; empty for all documents."""
        return "" if self.among is None else f"lang in {json.dumps(sorted(self.among))}"


def _hits(rows: Sequence[Any], mode: Mode) -> Iterator[Hit]:
    for rank, row in enumerate(rows, start=1):
        entity = row["entity"]
        # Milvus Lite gives the scores of BM25 as distances, less being better.
        score = abs(float(row["distance"])) if mode == "bm25" else float(row["distance"])
        scores: dict[str, Any] = {}
        if mode != "hybrid":  # what the legs gave to the fusion, a server does not tell
            scores = {f"{mode}_score": score, f"{mode}_rank": rank}
        lang = "" if entity["lang"] == UNKNOWN else entity["lang"]
        yield Hit(entity["doc_id"], score, rank, entity["title"], entity["text"], lang, **scores)
