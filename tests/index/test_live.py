import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mretrieve.errors import InputError
from mretrieve.index.live import LiveRows, read_deleted, write_deleted


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_rows_count_the_living(is_dead):
    live = LiveRows(np.flatnonzero(is_dead))
    expected = [place for place, dead in enumerate(is_dead) if not dead]
    rows = np.arange(len(expected))
    assert live.places_of(rows).tolist() == expected
    assert live.rows_of(np.array(expected, np.int64)).tolist() == rows.tolist()
    places = np.arange(-1, len(is_dead))
    assert live.is_live(places).tolist() == [False, *(not dead for dead in is_dead)]
    assert live.n_deleted(1, len(is_dead)) == sum(is_dead[1:])


def test_what_was_written_is_read(tmp_path):
    write_deleted(tmp_path / "d.npy", np.array([0, 4], np.int64))
    assert read_deleted(tmp_path / "d.npy", n_places=5, n_deleted=2).tolist() == [0, 4]
    assert read_deleted(tmp_path / "none.npy", n_places=5, n_deleted=0).tolist() == []


@pytest.mark.parametrize(
    ("deleted", "n_places", "n_deleted"), [([0, 4], 4, 2), ([0, 4], 5, 1), ([4, 0], 5, 2)]
)
def test_what_does_not_fit_is_told(tmp_path, deleted, n_places, n_deleted):
    write_deleted(tmp_path / "d.npy", np.array(deleted, np.int64))
    with pytest.raises(InputError, match=r"d\.npy does not say which"):
        read_deleted(tmp_path / "d.npy", n_places=n_places, n_deleted=n_deleted)


def test_a_damaged_and_a_missing_file_are_told(tmp_path):
    (tmp_path / "d.npy").write_bytes(b"\x93NUMPY\x01")
    for name in ("d.npy", "none.npy"):
        with pytest.raises(InputError, match=rf"{name} is damaged or missing"):
            read_deleted(tmp_path / name, n_places=5, n_deleted=2)
