import os
import subprocess
import sys

import pytest

from mretrieve.index import class_archive as archive
from mretrieve.index.jvm import archive_path, find_all


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def loaded_classes(log):
    """Search in a new process; returns the lines of Java's record of the classes that it loaded."""
    code = "from mretrieve.index.class_archive import use_lucene; use_lucene()"
    options = {"MRETRIEVE_JAVA_OPTIONS": f"-Xlog:class+load:file={log}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | options, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return [line for line in log.read_text().splitlines() if "org.apache.lucene." in line]


def test_each_jar_has_its_own_place_in_the_cache(cache, tmp_path):
    java, jar = find_all()
    other = tmp_path / "other.jar"
    other.write_bytes(b"another")
    assert archive_path(java, jar).is_relative_to(cache)
    assert archive_path(java, jar) == archive_path(java, jar)
    assert archive_path(java, jar) != archive_path(java, other)


@pytest.mark.slow
def test_classes_come_from_the_archive_once_it_is_made(cache, tmp_path):
    before = loaded_classes(tmp_path / "before.log")
    assert len(before) > 500
    assert not [line for line in before if "shared objects file" in line]

    process = archive.make_class_archive_in_background()
    assert process.wait(timeout=120) == 0
    path = archive_path(*find_all())
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert archive.make_class_archive() == path
    assert archive.make_class_archive_in_background() is None

    after = loaded_classes(tmp_path / "after.log")
    from_archive = [line for line in after if "shared objects file" in line]
    assert len(from_archive) > 0.9 * len(after)


@pytest.mark.slow
def test_a_damaged_archive_is_not_used(cache, tmp_path):
    path = archive_path(*find_all())
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not an archive" * 1000)
    assert not [line for line in loaded_classes(tmp_path / "log") if "shared objects file" in line]


@pytest.mark.slow
def test_nothing_is_left_when_java_fails(cache, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_JAVA_OPTIONS", "-XX:NoSuchOption=1")
    with pytest.raises(subprocess.CalledProcessError):
        archive.make_class_archive()
    assert list(archive_path(*find_all()).parent.parent.iterdir()) == []
