"""The classes of Lucene and Anserini that we use, and how objects of them are made.

Everything here is called under `JAVA_LOCK`, but for `scored_docs` and `os_errors`.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from mretrieve.index.jvm import java_class

K1 = 0.9
B = 0.4
"""Anserini's, which are good on passages in most languages."""

FIELD = "contents"
"""Anserini's name for it."""

PIECES_FIELD = "pieces"
"""Where the pieces of a vocabulary stand beside the terms of an analyzer."""

_BUFFER_MB = 64.0  # of documents in memory, then they are written as a segment
_MOST_CLAUSES = 1 << 20  # different terms of a query, of which Lucene allows 1,024 unless told
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@cache
def _classes() -> Any:
    """Classes that threads share: static methods and fields, and all else under `JAVA_LOCK`."""
    found = [*_classes_to_write(), *_classes_to_search()]
    return type("_Classes", (), {java.__name__.rpartition("$")[2]: java for java in found})


def _classes_to_write() -> list[Any]:
    config = "L@index/IndexWriterConfig;"
    return [
        java_class("java/io/File", new="(Ljava/lang/String;)V", methods={"toPath": "()Ljava/nio/file/Path;"}),
        java_class("java/nio/file/Path"),
        java_class("@store/MMapDirectory", new="(Ljava/nio/file/Path;)V", methods={"close": "()V"}),
        java_class("@search/similarities/BM25Similarity", new="(FF)V"),
        java_class(
            "@index/IndexWriterConfig",
            new="(L@analysis/Analyzer;)V",
            methods={
                "setMergePolicy": f"(L@index/MergePolicy;){config}",
                "setMergeScheduler": f"(L@index/MergeScheduler;){config}",
                "setOpenMode": f"(L@index/IndexWriterConfig$OpenMode;){config}",
                "setRAMBufferSizeMB": f"(D){config}",
                "setSimilarity": f"(L@search/similarities/Similarity;){config}",
            },
        ),
        java_class(
            "@index/IndexWriterConfig$OpenMode",
            static_fields={"CREATE": "L@index/IndexWriterConfig$OpenMode;"},
        ),
        java_class("@index/LogDocMergePolicy", methods={"setNoCFSRatio": "(D)V"}),
        java_class("@index/SerialMergeScheduler"),
        java_class("@index/IndexOptions", static_fields={"DOCS_AND_FREQS": "L@index/IndexOptions;"}),
        java_class("@document/FieldType", methods={"setIndexOptions": "(L@index/IndexOptions;)V"}),
        java_class("@document/Document", methods={"add": "(L@index/IndexableField;)V"}),
        java_class("java/util/Map"),
        java_class(
            "java/util/Collections",
            static_methods={"singletonMap": "(Ljava/lang/Object;Ljava/lang/Object;)Ljava/util/Map;"},
        ),
        java_class(
            "@analysis/miscellaneous/PerFieldAnalyzerWrapper", new="(L@analysis/Analyzer;Ljava/util/Map;)V"
        ),
    ]


def _classes_to_search() -> list[Any]:
    return [
        java_class(
            "@index/DirectoryReader",
            methods={"maxDoc": "()I", "close": "()V"},
            static_methods={"open": "(L@store/Directory;)L@index/DirectoryReader;"},
        ),
        java_class("@search/Query"),
        java_class("@search/BooleanQuery"),
        java_class("@search/BooleanClause$Occur", static_fields={"SHOULD": "L@search/BooleanClause$Occur;"}),
        java_class(
            "@search/BooleanQuery$Builder",
            methods={
                "add": "(L@search/Query;L@search/BooleanClause$Occur;)L@search/BooleanQuery$Builder;",
                "build": "()L@search/BooleanQuery;",
            },
        ),
        java_class("@search/TopDocs"),
        java_class(
            "io/anserini/search/ScoredDocs",
            static_methods={
                "fromTopDocs": "(L@search/TopDocs;L@search/IndexSearcher;)Lio/anserini/search/ScoredDocs;"
            },
            fields={"lucene_docids": "[I", "scores": "[F"},
        ),
    ]


def open_directory(path: Path) -> Any:
    """Open a folder, memory-mapped; it is made if it does not exist."""
    return _classes().MMapDirectory(_classes().File(str(path.absolute())).toPath())


def open_writer(directory: Any, analyzer: Any) -> Any:
    """A writer that keeps the order of insertion: it joins only neighbours, in the thread that adds."""
    java = _classes()
    config = java.IndexWriterConfig(analyzer)
    config.setOpenMode(java.OpenMode.CREATE)
    config.setSimilarity(java.BM25Similarity(K1, B))
    policy = java.LogDocMergePolicy()
    policy.setNoCFSRatio(1.0)  # one file instead of ten, for each of many languages
    config.setMergePolicy(policy)
    config.setMergeScheduler(java.SerialMergeScheduler())
    config.setRAMBufferSizeMB(_BUFFER_MB)
    own = java_class(
        "@index/IndexWriter",
        new="(L@store/Directory;L@index/IndexWriterConfig;)V",
        methods={
            "addDocument": "(Ljava/lang/Iterable;)J",
            "forceMerge": "(I)V",
            "close": "()V",
            "rollback": "()V",
        },
    )
    return own(directory, config)


def two_analyzers(contents: Any, pieces: Any) -> Any:
    """One analyzer for `PIECES_FIELD`, another for the rest."""
    java = _classes()
    return java.PerFieldAnalyzerWrapper(contents, java.Collections.singletonMap(PIECES_FIELD, pieces))


def reusable_document(*names: str) -> tuple[list[Any], Any]:
    """Fields of these names, and the document that has them."""
    java = _classes()
    kind = java.FieldType()
    kind.setIndexOptions(java.IndexOptions.DOCS_AND_FREQS)
    own = java_class(
        "@document/Field",
        new="(Ljava/lang/String;Ljava/lang/CharSequence;L@index/IndexableFieldType;)V",
        methods={"setStringValue": "(Ljava/lang/String;)V"},
    )
    fields = [own(name, "", kind) for name in names]
    document = java.Document()
    for field in fields:
        document.add(field)
    return fields, document


def open_reader(directory: Any) -> Any:
    """Open the last commit in a directory."""
    return _classes().DirectoryReader.open(directory)


def join_readers(readers: list[Any]) -> Any:
    """Read several indexes as one; the documents of each are numbered after those before it."""
    own = java_class("@index/MultiReader", new="([L@index/IndexReader;)V", methods={"maxDoc": "()I"})
    return own(readers)


def open_searcher(reader: Any, k1: float = K1, b: float = B) -> Any:
    """Make a searcher with the scores of BM25, which any number of threads may use."""
    own = java_class(
        "@search/IndexSearcher",
        new="(L@index/IndexReader;)V",
        methods={
            "search": "(L@search/Query;I)L@search/TopDocs;",
            "setSimilarity": "(L@search/similarities/Similarity;)V",
        },
        static_methods={"setMaxClauseCount": "(I)V"},
    )
    own.setMaxClauseCount(_MOST_CLAUSES)
    searcher = own(reader)
    searcher.setSimilarity(_classes().BM25Similarity(k1, b))
    return searcher


def query_generator() -> Any:
    """Make what turns text into a query of its terms, as often as they stand in it."""
    own = java_class(
        "io/anserini/search/query/BagOfWordsQueryGenerator",
        methods={"buildQuery": "(Ljava/lang/String;L@analysis/Analyzer;Ljava/lang/String;)L@search/Query;"},
    )
    return own()


def either(*queries: Any) -> Any:
    """What finds documents of any of the queries, by the sum of their scores."""
    java = _classes()
    builder = java.Builder()
    for query in queries:
        builder.add(query, java.Occur.SHOULD)
    return builder.build()


def scored_docs(searcher: Any, query: Any, top_k: int) -> Any:
    """Search; the result has the arrays `lucene_docids` and `scores`."""
    return _classes().ScoredDocs.fromTopDocs(searcher.search(query, top_k), searcher)


@contextmanager
def os_errors(path: Path) -> Iterator[None]:
    """Turn Java's errors of reading and writing into Python's."""
    from jnius import JavaException

    try:
        yield
    except JavaException as error:
        text = str(error)
        for number in _NO_ROOM:
            if os.strerror(number) in text:
                raise OSError(number, os.strerror(number), str(path)) from error
        if "java.io." in text or "java.nio." in text:
            raise OSError(errno.EIO, error.args[0], str(path)) from error
        raise
