"""Addresses of collections in Milvus: `milvus://HOST:PORT/COLLECTION`, `milvus:./file.db` for Milvus Lite."""

import re
from dataclasses import dataclass
from pathlib import Path

from mretrieve.errors import InputError

COLLECTION = "mretrieve"
"""The name of a collection in a file of Milvus Lite, where none is given."""

_SERVER = re.compile(r"//?(?P<host>[^/\s:]+:\d+)/(?P<collection>[^/\s]+)")
_LITE = re.compile(r"(?P<file>.+\.db)(#(?P<collection>.+))?", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w{0,254}", re.ASCII)


@dataclass(frozen=True, slots=True)
class MilvusAddress:
    """Where a collection is.

    Attributes:
        uri: what pymilvus connects to: a URL, or the path of a file.
        collection: its name.
    """

    uri: str
    collection: str

    @property
    def is_lite(self) -> bool:
        """Whether it is a file that Milvus Lite opens."""
        return self.uri.endswith(".db")

    def __str__(self) -> str:
        if self.is_lite:
            return f"milvus:{self.uri}" + (f"#{self.collection}" if self.collection != COLLECTION else "")
        return f"milvus://{self.uri.removeprefix('http://')}/{self.collection}"


def is_milvus_address(text: str | Path) -> bool:
    """Whether a text means a collection in Milvus rather than a folder."""
    return str(text).startswith("milvus:")


def parse_milvus_address(text: str | Path) -> MilvusAddress:
    """Read an address; also one that went through `Path`, which makes one slash of two.

    Raises:
        InputError: it is none.
    """
    scheme, _, rest = str(text).partition(":")
    if scheme == "milvus":
        if match := _LITE.fullmatch(rest):
            found = MilvusAddress(match["file"], match["collection"] or COLLECTION)
        elif match := _SERVER.fullmatch(rest):
            found = MilvusAddress(f"http://{match['host']}", match["collection"])
        else:
            raise _unknown(text)
        if _NAME.fullmatch(found.collection):
            return found
        raise InputError(
            f"Milvus allows no collection '{found.collection}': give a name of letters, digits and "
            "underscores that does not begin with a digit."
        )
    raise _unknown(text)


def _unknown(text: str | Path) -> InputError:
    return InputError(
        f"'{text}' is no address of Milvus. Write milvus://HOST:PORT/COLLECTION, or milvus:./file.db."
    )
