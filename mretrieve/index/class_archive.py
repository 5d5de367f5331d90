"""Keep the classes of Lucene ready in the user's cache, which halves the time to the first search.

Java can map classes that are loaded and checked already from a file. Such a file fits one Java and one jar;
where it is missing, all works as well, some 0.4 seconds later.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from mretrieve.cache import make_once
from mretrieve.index.analyzers import LUCENE_LANGUAGES
from mretrieve.index.jvm import Java, archive_path, find_all, java_options
from mretrieve.index.segment import WORD_START

_IN_CHILD = "from mretrieve.index.class_archive import {0}; {0}()"


def make_class_archive() -> Path:
    """Make the file for the Java and the jar that are used, unless it is there; takes some 5 seconds.

    Returns:
        The file.

    Raises:
        MissingDependencyError: Lucene, Java or pyjnius is not installed.
        subprocess.CalledProcessError: Java did not make it.
        OSError: the cache cannot be written.
    """
    java, jar = find_all()
    path = archive_path(java, jar)
    make_once(path.parent, lambda folder: _fill(folder / path.name, java, jar))
    return path


def make_class_archive_in_background() -> "subprocess.Popen[bytes] | None":
    """Start `make_class_archive` in another process, which goes on when this one ends.

    Returns:
        The process, whose success nothing depends on; None if the file is there.

    Raises:
        MissingDependencyError: Lucene, Java or pyjnius is not installed.
    """
    if archive_path(*find_all()).is_file():
        return None
    return subprocess.Popen(
        [sys.executable, "-c", _IN_CHILD.format("make_class_archive")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def use_lucene() -> None:
    """Write and search a small index in each language, so that Java loads what this takes."""
    from mretrieve.index.lucene import LexicalIndex, LexicalWriter

    with tempfile.TemporaryDirectory() as folder:
        for lang in [*LUCENE_LANGUAGES, "th"]:
            path = Path(folder, lang)
            with LexicalWriter(path, lang, cut=_words, terms="both") as writer:
                writer.add(["Lucene 9", "search in 2 languages"])
            with LexicalIndex(path, lang, cut=_words) as index:
                index.search("search Lucene", top_k=2)


def _words(texts: list[str]) -> list[list[str]]:
    return [[WORD_START + word for word in text.split()] for text in texts]


def _fill(path: Path, java: Java, jar: Path) -> None:
    """Run Lucene with a record of the classes loaded, then have Java make the file of them."""
    loaded = path.with_suffix(".txt")
    options = os.environ.get("MRETRIEVE_JAVA_OPTIONS", "")
    record = shlex.quote(f"-XX:DumpLoadedClassList={loaded}")
    environment = os.environ | {"MRETRIEVE_JAVA_OPTIONS": f"{options} {record}"}
    _run(sys.executable, "-c", _IN_CHILD.format("use_lucene"), environment=environment)
    _run(
        str(java.home / "bin" / "java"),
        *java_options(java),
        "-Xshare:dump",
        f"-XX:SharedClassListFile={loaded}",
        f"-XX:SharedArchiveFile={path}",
        "-cp",
        str(jar),
        environment=dict(os.environ),
    )
    loaded.unlink()


def _run(*command: str, environment: dict[str, str]) -> None:
    subprocess.run(command, env=environment, check=True, capture_output=True)
