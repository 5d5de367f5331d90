"""What folder may be replaced by a routing report: an earlier one, and nothing else."""

import json
from pathlib import Path

from mretrieve.errors import InputError

FORMAT = "mretrieve routing 1"
"""The field `format` of a report, by which a folder is known to be one."""

REPORT = "routing.json"


def check_report_folder(out: Path) -> None:
    """Raise InputError unless `out` is free, empty, or an earlier report, which may be replaced."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file: give the name of a folder for the report.")
    if any(out.iterdir()) and not _is_report(out):
        raise InputError(
            f"{out} holds something else than a routing report and is left as it is: give a new folder."
        )


def _is_report(folder: Path) -> bool:
    try:
        content = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT
