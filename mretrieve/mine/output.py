"""Where triples grow chunk by chunk, each on the disk before it counts, until the file is whole."""

import gzip
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mretrieve import files
from mretrieve.errors import InputError
from mretrieve.mine.candidates import Triple
from mretrieve.mine.page import to_markdown
from mretrieve.mine.report import MiningReport
from mretrieve.mine.triples import to_line


class Output:
    """The file of triples and the reports beside it; while they are made, the folder `OUT.building`.

    Args:
        path: file to make, `.jsonl` or `.jsonl.gz`.
        fingerprint: of the work; only what was begun under the same one is taken up again.
        overwrite: replace the file.

    Raises:
        InputError: the name has another ending, or there is such a file already.
    """

    def __init__(self, path: Path, *, fingerprint: str, overwrite: bool = False) -> None:
        if not path.name.endswith((".jsonl", ".jsonl.gz")):
            raise InputError(f"{path} is to hold JSON lines: give a name that ends in .jsonl or .jsonl.gz.")
        if path.is_dir():
            raise InputError(f"{path} is a folder: choose another name.")
        if path.exists() and not overwrite:
            raise InputError(f"{path} exists. Choose another name, or replace it with --overwrite.")
        self.path = path
        self._fingerprint = fingerprint
        self._building = path.with_name(path.name + ".building")
        self._triples = self._building / "triples.jsonl"
        self._progress = self._building / "progress.json"
        self._bytes = 0

    def report_file(self, suffix: str) -> Path:
        """Where the report goes: `negatives.report.md` for `negatives.jsonl.gz`."""
        return self.path.with_name(f"{self.path.name.split('.jsonl')[0]}.report.{suffix}")

    def locked(self) -> AbstractContextManager[None]:
        """The right to make this file, given to one process at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return files.locked(self.path)

    def resume(self) -> tuple[Mapping[str, Any] | None, int]:
        """Take up what an earlier start of the same work has done.

        Returns:
            Its state, None if there is none, and how many queries it did.
        """
        try:
            found = json.loads(self._progress.read_bytes())
            same = found["fingerprint"] == self._fingerprint
            if same and self._triples.stat().st_size >= found["bytes"]:
                os.truncate(self._triples, found["bytes"])  # of a chunk that was cut off
                self._bytes = found["bytes"]
                return found["state"], found["done"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing was begun, or it was cut off before it began
        files.remove(self._building)
        files.make_folder(self._building)
        self._triples.touch()
        return None, 0

    def append(self, triples: Sequence[Triple], *, done: int, state: Mapping[str, Any]) -> None:
        """Write a chunk.

        Args:
            triples: of these queries.
            done: queries that are done with this chunk.
            state: what `resume` will give.
        """
        with open(self._triples, "ab") as file:
            file.writelines(map(to_line, triples))
            file.flush()
            os.fsync(file.fileno())
            self._bytes = file.tell()
        progress = {"fingerprint": self._fingerprint, "done": done, "bytes": self._bytes, "state": state}
        with files.atomic_file(self._progress) as file:
            file.write(json.dumps(progress, ensure_ascii=False).encode())

    def finish(self, report: MiningReport) -> None:
        """Make the file and the reports of what was written."""
        for suffix, content in (("json", report.to_json()), ("md", to_markdown(report).encode())):
            with files.atomic_file(self.report_file(suffix)) as file:
                file.write(content)
        with files.atomic_file(self.path) as file, open(self._triples, "rb") as triples:
            if self.path.suffix == ".gz":
                # Without a name and a time, equal triples are equal files.
                with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
                    shutil.copyfileobj(triples, packed, 1 << 20)
            else:
                shutil.copyfileobj(triples, file, 1 << 20)
        files.remove(self._building)
