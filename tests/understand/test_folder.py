import json

import pytest

from mretrieve.errors import InputError
from mretrieve.files import new_folder, refuse_used_folder
from mretrieve.understand.folder import FORMAT, REPORT, check_report_folder


def fill(out, content, check=check_report_folder):
    with new_folder(out, check=check) as folder:
        (folder / REPORT).write_text(json.dumps({"format": FORMAT, "content": content}), encoding="utf-8")


def test_a_report_is_replaced_whole(tmp_path):
    out = tmp_path / "deep" / "report"
    fill(out, 1)
    (out / "old.png").touch()
    fill(out, 2)
    assert [path.name for path in out.iterdir()] == [REPORT]
    assert json.loads((out / REPORT).read_text(encoding="utf-8"))["content"] == 2
    assert [path.name for path in out.parent.iterdir()] == ["report"]


def test_an_error_leaves_the_old_one_and_nothing_else(tmp_path):
    out = tmp_path / "report"
    fill(out, 1)
    with pytest.raises(ZeroDivisionError), new_folder(out, check=check_report_folder) as folder:
        (folder / REPORT).write_text("half", encoding="utf-8")
        raise ZeroDivisionError
    assert json.loads((out / REPORT).read_text(encoding="utf-8"))["content"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("name", ["notes.txt", REPORT])
def test_anything_else_is_left_alone(tmp_path, name):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / name).write_text('{"format": "mine"}', encoding="utf-8")
    with pytest.raises(InputError, match="something else than a routing report"):
        fill(out, 1)
    assert [path.name for path in out.iterdir()] == [name]


def test_a_file_is_left_alone(tmp_path):
    (tmp_path / "report").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        fill(tmp_path / "report", 1)


def test_a_report_is_no_place_for_a_model(tmp_path):
    fill(tmp_path / "report", 1)
    with pytest.raises(InputError, match="exists already"):
        refuse_used_folder(tmp_path / "report")
