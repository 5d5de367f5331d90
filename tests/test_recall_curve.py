"""The curve as numbers and as a picture."""

import json
import sys

import pytest

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index.tune_index import Point, Tuned
from mretrieve.recall_curve import write_recall_curve

POINTS = (Point("nprobe=1", 0.5, 0.1), Point("nprobe=2", 0.9, 0.2))
TUNED = Tuned("IVF8,Flat", 100, 10, 10, 0.8, 3.0, POINTS, POINTS[1])


@pytest.mark.parametrize("tuned", [TUNED, Tuned("PQ8", 100, 10, 10, 1.0, 3.0, POINTS[:1], None)])
def test_the_curve_is_written_as_numbers_and_as_a_picture(tmp_path, tuned):
    pytest.importorskip("matplotlib")
    picture, numbers = write_recall_curve(tuned, tmp_path / "new" / "curve.png")
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert json.loads(numbers.read_text()) == json.loads(json.dumps(tuned.to_dict()))
    assert numbers == tmp_path / "new" / "curve.json"
    first = picture.read_bytes()
    write_recall_curve(tuned, tmp_path / "new" / "curve.png")
    assert picture.read_bytes() == first


def test_without_matplotlib_the_numbers_are_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'mretrieve\[train\]'"):
        write_recall_curve(TUNED, tmp_path / "curve.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curve.json"]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((InputError, OSError)):
        write_recall_curve(TUNED, tmp_path / "file" / "curve.png")
