"""A collection in Milvus: its schema, what it says about itself, and the calls that we make of it."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.manifest import EncoderIdentity
from mretrieve.milvus.address import MilvusAddress
from mretrieve.milvus.analysis import FIELD_BYTES, Analysis, server_analyzers

if TYPE_CHECKING:
    from pymilvus import MilvusClient

FORMAT = "mretrieve-milvus"
FORMAT_VERSION = 1

INDEX_TYPES = ("auto", "flat", "hnsw", "ivf", "diskann", "gpu_cagra")
"""Indexes of the vectors; auto is flat in Milvus Lite and hnsw on a server."""

TIMEOUT_SECONDS = 60.0

_KEEPALIVE_SECONDS = 24 * 3600
_LITE_TYPES = ("flat", "hnsw", "ivf")
_BUILD: dict[str, tuple[str, dict[str, Any]]] = {
    "flat": ("FLAT", {}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 200}),
    "ivf": ("IVF_FLAT", {"nlist": 1024}),
    "diskann": ("DISKANN", {}),
    "gpu_cagra": ("GPU_CAGRA", {"intermediate_graph_degree": 64, "graph_degree": 32}),
}
_PROPERTY = "mretrieve"


@dataclass(frozen=True, slots=True)
class About:
    """What a collection says about itself.

    Attributes:
        encoder: what made its vectors.
        analysis: who cuts texts into the terms of BM25.
        index_type: one of `INDEX_TYPES` but auto.
        source: fingerprint of what is indexed, by which an insertion that was cut off goes on.
        k1: of BM25.
        b: of BM25.
    """

    encoder: EncoderIdentity
    analysis: Analysis
    index_type: str
    source: str
    k1: float
    b: float

    def to_json(self) -> str:
        """As it is stored with the collection."""
        return json.dumps({"format": FORMAT, "format_version": FORMAT_VERSION} | asdict(self))

    @classmethod
    def parse(cls, text: str, where: object) -> "About":
        """Read what `to_json` wrote.

        Raises:
            InputError: it is no such text, or one of a newer format.
        """
        try:
            data = json.loads(text)
            if data.pop("format") != FORMAT:
                raise KeyError(FORMAT)
            if data.pop("format_version") > FORMAT_VERSION:
                raise InputError(f"{where} was written by a newer mretrieve: `pip install -U mretrieve`.")
            return cls(**data | {"encoder": EncoderIdentity(**data["encoder"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{where} was not made by mretrieve: it will be neither searched nor changed. "
                "Choose another collection."
            ) from error


class MilvusStore:
    """A connection to the collection of an address; to be closed.

    Raises:
        InputError: there is no server, or the file cannot be used.
        MissingDependencyError: pymilvus or, for a file, Milvus Lite is not installed.
    """

    def __init__(self, address: MilvusAddress) -> None:
        self.address = address
        self.name = address.collection
        self.client = _connect(address)

    def close(self) -> None:
        """End the connection, and let go of the file."""
        self.client.close()

    def __enter__(self) -> "MilvusStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def exists(self) -> bool:
        """Whether the collection is there."""
        with self.errors():
            return bool(self.client.has_collection(self.name))

    def about(self) -> About:
        """What the collection says about itself.

        Raises:
            InputError: it is not there, or not ours.
        """
        if not self.exists():
            raise InputError(
                f"There is no collection {self.address}. Make it with "
                f"`mretrieve index SOURCE {self.address}`."
            )
        with self.errors():
            found = self.client.describe_collection(self.name)
        text = found.get("properties", {}).get(_PROPERTY) or found.get("description") or ""
        return About.parse(text, self.address)

    def create(self, about: About) -> None:
        """Make the collection, empty, with its indexes."""
        from pymilvus import DataType, Function, FunctionType

        schema = self.client.create_schema(description=about.to_json(), enable_dynamic_field=False)
        schema.add_field("key", DataType.VARCHAR, max_length=32, is_primary=True)
        schema.add_field("doc_id", DataType.VARCHAR, max_length=FIELD_BYTES)
        schema.add_field("lang", DataType.VARCHAR, max_length=16, is_partition_key=True)
        schema.add_field("title", DataType.VARCHAR, max_length=FIELD_BYTES)
        schema.add_field("text", DataType.VARCHAR, max_length=FIELD_BYTES)
        if about.analysis == "server":
            analyzer = {"multi_analyzer_params": server_analyzers()}
        else:
            analyzer = {"analyzer_params": {"tokenizer": "standard"}}
        schema.add_field("terms", DataType.VARCHAR, max_length=FIELD_BYTES, enable_analyzer=True, **analyzer)
        schema.add_field("dense", DataType.FLOAT_VECTOR, dim=about.encoder.dim)
        schema.add_field("bm25", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(Function("bm25", FunctionType.BM25, ["terms"], ["bm25"]))
        indexes = self.client.prepare_index_params()
        kind, parameters = _BUILD[about.index_type]
        indexes.add_index("dense", index_type=kind, metric_type="IP", params=parameters)
        bm25 = {"bm25_k1": about.k1, "bm25_b": about.b}
        indexes.add_index("bm25", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params=bm25)
        with self.errors():
            self.client.create_collection(
                self.name,
                schema=schema,
                index_params=indexes,
                consistency_level="Strong",
                properties={_PROPERTY: about.to_json()},
            )

    def drop(self) -> None:
        """Delete the collection."""
        with self.errors():
            self.client.drop_collection(self.name)

    def load(self) -> None:
        """Make the collection ready to be asked, which it is not when a process has just opened a file."""
        with self.errors():
            self.client.load_collection(self.name)

    def count(self) -> int:
        """Number of documents."""
        with self.errors():
            found = self.client.query(self.name, filter="", output_fields=["count(*)"])
        return int(found[0]["count(*)"])

    def languages(self, n_looked_at: int) -> dict[str, int]:
        """Documents of each language that the first so many documents have, by its code."""
        with self.errors():
            found = self.client.query(self.name, filter="", output_fields=["lang"], limit=n_looked_at)
            counts = {}
            for lang in sorted({row["lang"] for row in found}):
                one = self.client.query(self.name, filter=f'lang == "{lang}"', output_fields=["count(*)"])
                counts[lang] = int(one[0]["count(*)"])
        return counts

    def missing(self, doc_ids: Sequence[str]) -> set[str]:
        """Those of some documents that the collection has not."""
        keys = {key_of(doc_id): doc_id for doc_id in doc_ids}
        with self.errors():
            there = self.client.get(self.name, ids=list(keys), output_fields=["key"])
        return set(doc_ids) - {keys[row["key"]] for row in there}

    def upsert(self, rows: list[dict[str, Any]]) -> None:
        """Insert documents, in place of any with the same ids."""
        with self.errors():
            self.client.upsert(self.name, rows)

    def flush(self) -> None:
        """Have the server put everything on its disks and into its indexes."""
        with self.errors():
            self.client.flush(self.name)
        self.load()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the errors of Milvus into one sentence."""
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except MilvusException as error:
            raise InputError(f"{self.address} refuses: {_first_line(error.message)}.") from error


def key_of(doc_id: str) -> str:
    """The primary key of a document: 32 digits, for Milvus Lite reads no filter with every sign in it."""
    return blake2b(doc_id.encode(), digest_size=16).hexdigest()


def choose_index_type(name: str, address: MilvusAddress) -> str:
    """The index that is meant.

    Raises:
        InputError: it is unknown, or Milvus Lite has none of that kind.
    """
    if name not in INDEX_TYPES:
        raise InputError(f"Milvus has no index '{name}' here. Choose from: {', '.join(INDEX_TYPES)}.")
    if name == "auto":
        return "flat" if address.is_lite else "hnsw"
    if address.is_lite and name not in _LITE_TYPES:
        raise InputError(
            f"Milvus Lite has no index '{name}', which needs a Milvus server. "
            f"Choose from: {', '.join(_LITE_TYPES)}."
        )
    return name


def search_parameters(index_type: str, depth: int) -> dict[str, Any]:
    """How an index is searched so that `depth` documents can come out of it."""
    if index_type == "hnsw":
        return {"ef": max(2 * depth, 128)}
    if index_type == "ivf":
        return {"nprobe": 32}
    if index_type == "diskann":
        return {"search_list": max(2 * depth, 100)}
    return {"itopk_size": max(2 * depth, 128)} if index_type == "gpu_cagra" else {}


def _connect(address: MilvusAddress) -> "MilvusClient":
    import os

    try:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException

        if address.is_lite:
            import milvus_lite  # noqa: F401 (pymilvus tells of its absence in three pages)
    except ImportError as error:
        raise MissingDependencyError(
            f"{address} needs pymilvus, which is not installed: `pip install 'mretrieve[milvus]'`."
        ) from error
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it tells each error before raising it
    options: dict[str, Any] = {}
    if address.is_lite:  # whose server tells of calls that it has not, though pymilvus does without
        logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
        logging.getLogger("milvus_lite").setLevel(logging.CRITICAL + 1)
        # It hangs up on a client that asks every ten seconds, as pymilvus does, whether it is there.
        options["grpc.keepalive_time_ms"] = _KEEPALIVE_SECONDS * 1000
    if address.is_lite and not Path(address.uri).absolute().parent.is_dir():
        raise InputError(f"There is no folder {Path(address.uri).parent} for {address.uri}: make it first.")
    try:
        token = "" if address.is_lite else os.environ.get("MILVUS_TOKEN", "")
        return MilvusClient(
            address.uri, token=token, timeout=TIMEOUT_SECONDS, dedicated=True, grpc_options=options
        )
    except (MilvusException, OSError, RuntimeError) as error:
        reason = _first_line(getattr(error, "message", "") or str(error))
        hint = (
            "It may be open in another process." if address.is_lite else "Check the address and MILVUS_TOKEN."
        )
        raise InputError(f"{address} cannot be opened: {reason}. {hint}") from error


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason is given"])[0].rstrip(".")
