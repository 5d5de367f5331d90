"""mretrieve's encoders and retrievers as models of mteb, so that `mteb.evaluate` runs on them.

    import mteb
    from mretrieve.mteb import MtebEncoder, MtebRetriever

    mteb.evaluate(MtebEncoder("e5-small"), mteb.get_tasks(tasks=["MIRACLRetrieval"], languages=["swa"]))
    mteb.evaluate(MtebRetriever("e5-small", mode="hybrid"), ...)

mteb (Muennighoff et al., 2023; Enevoldsen et al., 2025) is imported only when one of its own types is needed.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.datasets.published import ALIASES
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.indexing import build_index
from mretrieve.languages import normalize_language
from mretrieve.rank.retriever import Retriever
from mretrieve.recipe import Bm25Part, EncoderPart, FaissPart, Recipe
from mretrieve.types import Mode, Query

if TYPE_CHECKING:
    from mteb.models import ModelMeta

_QUERIES_AT_ONCE = 1024


class MtebEncoder:
    """An `Encoder` with mteb's encoder protocol.

    Texts of retrieval tasks get the model's prompt for queries or for documents, as mteb says which they are;
    all others get that for queries.

    Args:
        model_name: as for `Encoder`.
        revision: of a model on the hub.
        device: `auto`, `cpu` or `cuda`; None is `auto`.
        dtype: number type of the model.
        **kwargs: ignored; mteb passes what other models take.
    """

    def __init__(
        self,
        model_name: str = "e5-small",
        revision: str | None = None,
        *,
        device: str | None = None,
        dtype: str = "auto",
        **kwargs: Any,
    ) -> None:
        name = f"{model_name}@{revision}" if revision else model_name
        self.encoder = Encoder(name, device=device or "auto", dtype=dtype)

    def encode(
        self, inputs: Iterable[Mapping[str, Any]], *, prompt_type: Any = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        """Embed batches of texts.

        Args:
            inputs: batches, each with a list of texts under `text`.
            prompt_type: `query`, `document` or None.
            **kwargs: the task and mteb's options, of which none matters here.

        Returns:
            (n, dim) float32, unit length.
        """
        texts = [text for batch in inputs for text in batch["text"]]
        if str(getattr(prompt_type, "value", prompt_type)) == "document":
            return self.encoder.encode_documents(texts)
        return self.encoder.encode_queries(texts)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of each pair of rows: (n, m) float32."""
        return _tensor(embeddings1) @ _tensor(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of the rows of equal number: (n,) float32."""
        return (_tensor(embeddings1) * _tensor(embeddings2)).sum(dim=-1)

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """The model's name and sizes, under which mteb keeps results."""
        return model_meta(self.encoder, "dense")


class MtebRetriever:
    """An index with mteb's search protocol: BM25, vectors, or both.

    Args:
        model_name: as for `Encoder`; not used by `bm25`.
        mode: `bm25`, `dense` or `hybrid`.
        device: `auto`, `cpu` or `cuda`.
        dtype: number type of the model.
        fusion: how hybrid joins its legs; by default as everywhere.
        folder: where indexes are built; a temporary one by default.
    """

    def __init__(
        self,
        model_name: str = "e5-small",
        *,
        mode: Mode = "hybrid",
        device: str = "auto",
        dtype: str = "auto",
        fusion: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.mode: Mode = mode
        self._model, self._device, self._dtype, self._fusion = model_name, device, dtype, fusion
        self._lang = ""
        self._folder = folder
        self._retriever: Retriever | None = None
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def index(
        self, corpus: Iterable[Mapping[str, Any]], *, task_metadata: Any, hf_subset: str, **kwargs: Any
    ) -> None:
        """Index a corpus.

        Args:
            corpus: rows with `id`, `text` and perhaps `title`.
            task_metadata: names the language of the subset.
            hf_subset: of the task.
            **kwargs: mteb's options, of which none matters here.
        """
        folder = self._fresh_folder()
        lang = _language(task_metadata, hf_subset)
        with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
            for row in corpus:
                record = {
                    "_id": row["id"],
                    "title": row.get("title") or "",
                    "text": row["text"],
                    "lang": lang,
                }
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
        recipe = Recipe(
            encoder=None if self.mode == "bm25" else EncoderPart(model=self._model),
            faiss=FaissPart(factory="Flat"),
            bm25=None if self.mode == "dense" else Bm25Part(),
        )
        build_index(folder / "corpus.jsonl", folder / "index", recipe=recipe, device=self._device)
        self._lang = lang
        self._retriever = Retriever(
            folder / "index", device=self._device, dtype=self._dtype, fusion=self._fusion
        )

    def search(
        self,
        queries: Iterable[Mapping[str, Any]],
        *,
        top_k: int,
        top_ranked: Any = None,
        **kwargs: Any,
    ) -> dict[str, dict[str, float]]:
        """Rank the corpus for each query.

        Args:
            queries: rows with `id` and `text`.
            top_k: documents per query.
            top_ranked: candidates of a reranking task, which is not what this does.
            **kwargs: the task and mteb's options, of which none matters here.

        Returns:
            query id -> document id -> score.

        Raises:
            InputError: nothing was indexed, or the task is one of reranking.
        """
        if top_ranked is not None:
            raise InputError(
                "This searches a whole corpus: give mteb a retrieval task, not one of reranking."
            )
        if self._retriever is None:
            raise InputError("Nothing is indexed yet: call index first, as mteb does.")
        topics = [Query(str(row["id"]), str(row["text"]), self._lang) for row in queries]
        found: dict[str, dict[str, float]] = {}
        for start in range(0, len(topics), _QUERIES_AT_ONCE):
            batch = topics[start : start + _QUERIES_AT_ONCE]
            ranked = self._retriever.rank(batch, top_k=top_k, mode=self.mode)
            for topic, one in zip(batch, ranked, strict=True):
                ids = self._retriever.doc_ids(one.ranking)
                found[topic.query_id] = dict(zip(ids, one.ranking.scores.tolist(), strict=True))
        return found

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """The name under which mteb keeps results."""
        if self.mode == "bm25":
            return model_meta(None, "bm25")
        return model_meta(Encoder(self._model), self.mode)

    def _fresh_folder(self) -> Path:
        """An empty folder for the next task; that of the last one goes."""
        self._retriever = None
        if self._folder is not None:
            folder = self._folder / self.mode
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            return folder
        self._own = tempfile.TemporaryDirectory(prefix="mretrieve-mteb-")
        return Path(self._own.name)


def model_meta(encoder: Encoder | None, mode: Mode) -> "ModelMeta":
    """What mteb keeps results under: the hub's name of the model, and how it is used.

    Raises:
        MissingDependencyError: mteb is not installed.
    """
    try:
        from mteb.models import ModelMeta
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "This needs mteb, which is not installed. Run `pip install 'mteb>=2'`."
        ) from error
    if encoder is None:
        return ModelMeta.create_empty({"name": "mretrieve/bm25", "revision": "1", "model_type": ["sparse"]})
    name = encoder.name.partition("@")[0]
    name = ALIASES.get(name, name)
    if not _is_hub_id(name):
        name = f"mretrieve/{Path(name).name}"
    if mode != "dense":
        name = f"mretrieve/{name.rpartition('/')[2]}-{mode}"
    known = {"name": name, "revision": encoder.fingerprint, "embed_dim": encoder.dim}
    return ModelMeta.create_empty(
        {**known, "max_tokens": encoder.checkpoint.max_length, "use_instructions": False}
    )


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not Path(name).exists()


def _language(task_metadata: Any, subset: str) -> str:
    """ISO 639-1 code of a subset that is in one language; empty for others, whose texts are looked at."""
    languages = getattr(task_metadata, "hf_subsets_to_langscripts", {}).get(subset, [])
    try:
        found = {normalize_language(one) for one in languages}
    except InputError:
        return ""
    return found.pop() if len(found) == 1 else ""


def _tensor(values: Any) -> Any:
    import torch

    return values if isinstance(values, torch.Tensor) else torch.from_numpy(np.asarray(values, np.float32))
