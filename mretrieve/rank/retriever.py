"""Retriever: answers queries from an index, by meaning, by words, or by both."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.encoder import Encoder
from mretrieve.encode.pieces import cut_into_pieces
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.documents import UNKNOWN
from mretrieve.index.jvm import find_all
from mretrieve.index.lucene import LexicalIndex
from mretrieve.index.manifest import check_encoder
from mretrieve.index.open import LexicalSearcher, open_index
from mretrieve.languages import normalize_language
from mretrieve.rank.fusion import EMPTY, Fusion, Ranking
from mretrieve.rank.queries import check_mode, check_queries, query_languages
from mretrieve.rank.ranked import Ranked, as_hits
from mretrieve.rank.rerank import Reranker, candidates, rerank_hits
from mretrieve.rank.tuning import read_tuning
from mretrieve.types import Hit, Mode, Query

logger = logging.getLogger(__name__)

DEPTH = 100
"""Documents that each leg gives to the fusion, at least; measured by `benchmarks/fusion.py`."""


@dataclass(frozen=True, slots=True)
class _Bm25Ranking:
    """What BM25 found, the languages that it looked at, and that of the query."""

    ranking: Ranking
    languages: Sequence[str]
    asked_in: str


@dataclass(slots=True)
class _Work:
    """Queries that are ranked together: how deep, in which languages (None: all), and what took how long."""

    queries: Sequence[Query]
    depth: int
    languages: frozenset[str] | None
    vectors: NDArray[np.float32] | None
    seconds: dict[str, float] = field(default_factory=dict)


class Retriever:
    """Searches one index; safe to use from several threads.

    Args:
        index: folder written by `mretrieve index`.
        model: the encoder; by default the one that the index was built with.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`.
        fusion: how to join the legs, such as `rrf:60`; by default as the index says, or as was learned for
            the query's language by `mretrieve tune`.

    Raises:
        InputError: there is no usable index, or the model is not the one that it was built with.
    """

    def __init__(
        self,
        index: str | Path,
        *,
        model: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        fusion: str | None = None,
    ) -> None:
        self.index = open_index(Path(index), open_lexical=self._open_lexical, device=device)
        manifest = self.index.manifest
        self.languages = frozenset(manifest.languages) - {"und"}
        self.fusion = Fusion.parse(fusion or manifest.ranking.fusion)
        tuning = None if fusion else read_tuning(self.index.path, manifest)
        self.tuned = tuning.fusions() if tuning else {}
        self._encoder: Encoder | InputError | None = None
        if manifest.encoder is not None:
            try:
                self._encoder = Encoder.of_index(
                    manifest.encoder, model=model, device=device, dtype=dtype, gears=True
                )
            except InputError as error:
                if model is not None:
                    raise
                self._encoder = self._without_encoder(error)
                if not self.index.lexical_languages:
                    raise self._encoder from error
        elif model is not None:
            check_encoder(manifest, model, "", path=index)
        self._encoder_is_loaded = False
        self._loading = Lock()
        self._is_warm = False

    def search(
        self,
        query: str,
        *,
        top_k: int = 10,
        mode: Mode | None = None,
        lang: str | None = None,
        languages: Collection[str] | None = None,
        reranker: Reranker | None = None,
    ) -> list[Hit]:
        """Find the best documents for a query.

        Args:
            query: text in any language.
            top_k: how many hits to give.
            mode: `hybrid`, `dense` or `bm25`; by default the most that the index allows.
            lang: the query's language, ISO 639-1; detected if it is not given.
            languages: of the documents to find, ISO 639-1, `und` where it is unknown; all by default.
            reranker: puts the best `CANDIDATES` in an order of its own, with scores of its own.

        Returns:
            At most `top_k` hits, best first.

        Raises:
            InputError: the query is empty, an argument is out of range, or the index lacks the leg.
        """
        depth = candidates(top_k, reranker)
        hits = next(self.search_many([query], top_k=depth, mode=mode, lang=lang, languages=languages))
        return hits if reranker is None else rerank_hits(reranker, query, hits, top_k=top_k)

    def search_many(
        self,
        queries: Sequence[str],
        *,
        top_k: int = 10,
        mode: Mode | None = None,
        lang: str | None = None,
        languages: Collection[str] | None = None,
    ) -> Iterator[list[Hit]]:
        """Find the best documents for each query, as `search`; the hits of one query at a time."""
        if isinstance(queries, str):
            raise InputError("Give a list of queries; a single string would be read letter by letter.")
        numbered = [Query(str(number), text, lang or "") for number, text in enumerate(queries, start=1)]
        ranked = self.rank(numbered, top_k=top_k, mode=mode, languages=languages)
        return (self.hits(one) for one in ranked)

    def rank(
        self,
        queries: Sequence[Query],
        *,
        top_k: int = 100,
        mode: Mode | None = None,
        languages: Collection[str] | None = None,
        vectors: NDArray[np.float32] | None = None,
    ) -> list[Ranked]:
        """Rank the documents for each query without reading them: what runs are made of.

        Args:
            queries: their `lang` is detected where it is empty.
            top_k: documents per query.
            mode: as in `search`.
            languages: as in `search`.
            vectors: (n, dim) float32, the queries' embeddings where they are known already; they must come
                from the weights and the query prefix that the index's manifest names.
        """
        mode = self.check(queries, top_k=top_k, mode=mode)
        top_k = min(top_k, self.index.manifest.documents)
        work = _Work(queries, top_k, self.check_languages(languages), vectors)
        if mode == "bm25":
            found = self._rank_bm25(work)
            return [Ranked(one.ranking, bm25=one.ranking, seconds=work.seconds) for one in found]
        if mode == "dense":
            return [Ranked(one, dense=one, seconds=work.seconds) for one in self._rank_dense(work)]
        work.depth = max(top_k, DEPTH)
        if self._is_warm:
            dense, bm25 = self._rank_dense(work), self._rank_bm25(work)
        else:
            # Java and the model start side by side. Later BM25 takes a twentieth of the encoder's time,
            # and a thread of its own would only be in the way of the encoder's.
            with ThreadPoolExecutor(1, thread_name_prefix="mretrieve-bm25") as pool:
                waiting = pool.submit(self._rank_bm25, work)
                dense = self._rank_dense(work)
                bm25 = waiting.result()
            self._is_warm = True
        return [self._fuse(*legs, top_k, work.seconds) for legs in zip(dense, bm25, strict=True)]

    def check_languages(self, languages: Collection[str] | None) -> frozenset[str] | None:
        """Those languages of the index that were asked for; None where this leaves nothing out.

        Raises:
            InputError: one of them is no language, or they are no list.
        """
        if languages is None:
            return None
        if isinstance(languages, str):
            raise InputError(f"Give languages as a list: ['{languages}'].")
        asked = {normalize_language(code) or UNKNOWN for code in languages}
        present = self.index.manifest.languages.keys()
        return None if present <= asked else frozenset(asked & present)

    def _fuse(self, dense: Ranking, bm25: "_Bm25Ranking", top_k: int, seconds: Mapping[str, float]) -> Ranked:
        seen = self.index.documents.in_languages(dense.rows, bm25.languages)
        fusion = self.fusion_for(bm25.asked_in)
        best = fusion.fuse(dense, bm25.ranking, seen=seen)
        return Ranked(best.top(top_k), dense, bm25.ranking, seen, seconds, fusion)

    def fusion_for(self, lang: str) -> Fusion:
        """How the legs are joined for queries in a language."""
        return self.tuned.get(lang, self.fusion)

    def doc_ids(self, ranking: Ranking) -> list[str]:
        """The ids of a ranking's documents."""
        return self.index.documents.doc_ids(ranking.rows)

    def hits(self, ranked: Ranked) -> list[Hit]:
        """Read the documents of a ranking."""
        return as_hits(ranked, self.index.documents.get(ranked.ranking.rows))

    def check(self, queries: Sequence[Query], *, top_k: int, mode: Mode | None) -> Mode:
        """Make sure that queries can be answered, before any work is done for them.

        Returns:
            The mode, which is the most that the index allows if none was given.

        Raises:
            InputError: as `search`.
        """
        if top_k < 1:
            raise InputError(f"top_k is {top_k}, but it should be at least 1: ask for one document or more.")
        check_queries(queries)
        dense, bm25 = self._encoder is not None, bool(self.index.lexical_languages)
        if mode is None:
            mode = self._default_mode
        check_mode(mode)
        if mode != "bm25" and not dense:
            check_encoder(self.index.manifest, "", "", path=self.index.path)
        if mode != "dense" and not bm25:
            raise InputError(
                f"{self.index.path} has no BM25 part (it was built with --no-lexical): search with "
                "--mode dense, or build it again without --no-lexical."
            )
        return mode

    @cached_property
    def _default_mode(self) -> Mode:
        """The most that the index has and this machine can do."""
        dense, bm25 = self._encoder is not None, bool(self.index.lexical_languages)
        if not (dense and bm25):
            return "dense" if dense else "bm25"
        try:
            find_all()
        except MissingDependencyError as error:
            logger.warning("Searching without BM25. %s", error)
            return "dense"
        return "hybrid"

    def _rank_dense(self, work: "_Work") -> list[Ranking]:
        start = perf_counter()
        queries = work.vectors
        if queries is None:
            queries = self._encode([query.text for query in work.queries])
            work.seconds["encode"] = perf_counter() - start
            start = perf_counter()
        dense = self.index.dense
        assert dense is not None
        scores, rows = dense.search(queries, work.depth, among=self._rows(work.languages))
        work.seconds["dense"] = perf_counter() - start
        return [Ranking(r[r >= 0], s[r >= 0]) for r, s in zip(rows, scores, strict=True)]

    def _rows(self, languages: frozenset[str] | None) -> NDArray[np.int64] | None:
        """Rows of the documents in some languages, ascending; None for all."""
        if languages is None:
            return None
        rows = [EMPTY.rows, *(self.index.rows_of(lang) for lang in languages)]
        return np.sort(np.concatenate(rows), kind="stable")  # which merges what is sorted in parts already

    @property
    def encoder(self) -> Encoder:
        """The model of the index's dense part.

        Raises:
            InputError: there is no dense part, or its model cannot be used.
        """
        if self._encoder is None:
            raise InputError(f"{self.index.path} has no dense part, and so no model.")
        if isinstance(self._encoder, InputError):
            raise InputError(str(self._encoder))  # a new one, since threads would share its traceback
        return self._encoder

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        encoder = self.encoder
        if self._encoder_is_loaded:
            return encoder.encode_queries(texts)
        with self._loading:  # lest each of several threads loads the model
            check_encoder(self.index.manifest, encoder.name, encoder.fingerprint, path=self.index.path)
            with ThreadPoolExecutor(1) as pool:  # FAISS is loaded meanwhile
                pool.submit(lambda: self.index.dense)
                queries = encoder.encode_queries(texts)
            self._encoder_is_loaded = True
            return queries

    def _without_encoder(self, error: InputError) -> InputError:
        """Say why the index's own model cannot be used, as long as nobody needs it."""
        assert self.index.manifest.encoder is not None
        other = ", or search with --mode bm25, which needs none" if self.index.lexical_languages else ""
        return InputError(
            f"{self.index.path} was built with {self.index.manifest.encoder.model}, which cannot be used "
            f"now: {error} Name the model's new place by --model{other}."
        )

    def _open_lexical(self, path: Path | Sequence[Path], lang: str) -> LexicalSearcher:
        ranking = self.index.manifest.ranking
        return LexicalIndex(path, lang, cut=cut_into_pieces, k1=ranking.k1, b=ranking.b)

    def _rank_bm25(self, work: "_Work") -> list["_Bm25Ranking"]:
        start = perf_counter()
        languages = query_languages(work.queries, among=self.languages)
        found = [
            self._bm25(query.text, lang, work) for query, lang in zip(work.queries, languages, strict=True)
        ]
        work.seconds["bm25"] = perf_counter() - start
        return found

    def _bm25(self, text: str, lang: str, work: "_Work") -> "_Bm25Ranking":
        """The query's own language first; the others only where that finds nothing."""
        known = self.index.lexical_languages
        if work.languages is not None:
            known = [other for other in known if other in work.languages]
        if lang in known:
            found = self._bm25_in(lang, text, work.depth)
            if len(found.rows):
                return _Bm25Ranking(found, [lang], lang)
        others = [self._bm25_in(other, text, work.depth) for other in known if other != lang]
        rows = np.concatenate([EMPTY.rows, *(ranking.rows for ranking in others)])
        scores = np.concatenate([EMPTY.scores, *(ranking.scores for ranking in others)])
        order = np.lexsort((rows, -scores))[: work.depth]
        return _Bm25Ranking(Ranking(rows[order], scores[order]), known, lang)

    def _bm25_in(self, lang: str, text: str, depth: int) -> Ranking:
        rows, scores = self.index.lexical(lang).search(text, depth)
        return Ranking(self.index.rows_of(lang)[rows], scores)
