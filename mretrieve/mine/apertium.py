"""Apertium: rule-based translation between near languages, by the programs of Debian's packages."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.mine.translator import Languages, by_source

_MODES = Path("/usr/share/apertium/modes")
_INSTALL = "On Debian and Ubuntu: `apt-get install apertium apertium-eng-spa` (or another pair)."
_MODE = re.compile(r"([a-z]{2,3})(_\w+)?-([a-z]{2,3})(_\w+)?")

# What has a meaning in Apertium's stream. Text between [ ] passes through all programs untouched.
_SPECIAL = re.compile(r"[\\\[\]{}^$/@<>]")
_ESCAPED_OR_BLANK = re.compile(r"\\(.)|\[((?:\\.|[^\]\\])*)\]", re.DOTALL)
_MARK = re.compile("\\[\x02(\\d+)\x02\\]\\s*$")
# Words that the other language does without leave their spaces.
_SPACES = re.compile(r"[ \t]+")
_AROUND_BREAK = re.compile(r" ?\n ?")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")


class Apertium:
    """The translation directions that are installed on this machine.

    Raises:
        InputError: Apertium is not installed, or no pair of languages.
    """

    name = "apertium"
    characters_at_once = 200_000  # through one run of the pipeline, which takes a quarter second to start

    def __init__(self) -> None:
        if shutil.which("apertium") is None:
            raise InputError(f"Apertium is not installed. {_INSTALL}")
        if not self._modes:
            raise InputError(f"Apertium has no pair of languages installed. {_INSTALL}")

    @cached_property
    def languages(self) -> Languages:
        """What the installed pairs translate."""
        return by_source(list(self._modes))

    @cached_property
    def _modes(self) -> dict[tuple[str, str], str]:
        """(source, target) -> name of the mode; the plain one where there are variants."""
        modes: dict[tuple[str, str], str] = {}
        for name in sorted(_run(["apertium", "-l"]).decode().split(), key=lambda mode: ("_" in mode, mode)):
            match = _MODE.fullmatch(name)
            if match:
                modes.setdefault((normalize_language(match[1]), normalize_language(match[3])), name)
        return modes

    def version(self, source: str, target: str) -> str:
        """Apertium's version, and a digest of the pair's data."""
        mode = self._modes[source, target]
        return f"{_version()} {mode} {_digest(_MODES / f'{mode}.mode')}"

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate texts; words that it does not know stay as they are.

        Raises:
            InputError: the pair's programs fail.
        """
        found = _translate(texts, self._modes[source, target]) if texts else {}
        return [found.get(number) for number in range(len(texts))]


def _translate(texts: Sequence[str], mode: str) -> dict[int, str]:
    """Translate texts in one run of the pipeline.

    With `-z` each program hands on what it has at a NUL, so no text touches the next one. Each ends with its
    number between brackets, so a text that a program dropped or doubled does not shift the others.
    """
    stream = "".join(f"{_escape(text)}[][\x02{number}\x02]\0" for number, text in enumerate(texts))
    # -u: without the asterisks before unknown words.
    output = _run(["apertium", "-z", "-f", "none", "-u", mode], stream.encode("utf-8", "replace"))
    translations: dict[int, str] = {}
    for piece in output.decode("utf-8", "replace").split("\0"):
        mark = _MARK.search(piece)
        if mark:
            translation = _SPACES.sub(" ", _unescape(piece[: mark.start()]))
            translation = _AROUND_BREAK.sub("\n", translation).strip()
            if translation:
                translations[int(mark[1])] = translation
    return translations


def _escape(text: str) -> str:
    escaped = _SPECIAL.sub(r"\\\g<0>", _CONTROL.sub(" ", text))
    return escaped.replace("\n", "[\n]")


def _unescape(text: str) -> str:
    return _ESCAPED_OR_BLANK.sub(
        lambda found: found[1] if found[2] is None else re.sub(r"\\(.)", r"\1", found[2]), text
    )


def _run(command: Sequence[str], text: bytes = b"") -> bytes:
    done = subprocess.run(command, input=text, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InputError(
            f"`{' '.join(command)}` failed with status {done.returncode}"
            f"{': ' + reason[0] if reason else ''}. Install its packages again. {_INSTALL}"
        )
    return done.stdout


@lru_cache(maxsize=1)
def _version() -> str:
    return " ".join(_run(["apertium", "-V"]).decode().split())


@lru_cache(maxsize=64)
def _digest(mode: Path) -> str:
    """Of a mode's programs and of all data files that they name."""
    try:
        text = mode.read_text("utf-8")
    except OSError:
        return "-"  # installed elsewhere: the version of the programs has to do
    digest = hashlib.sha256(text.encode())
    for name in sorted(set(re.findall(r"'?(/[\w./+-]+)'?", text))):
        if Path(name).is_file():
            with open(name, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
