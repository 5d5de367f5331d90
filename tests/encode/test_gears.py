import threading

import pytest

from mretrieve.encode.choose import BULK_TOKENS
from mretrieve.encode.gears import GearChange


def test_the_gear_is_loaded_once_and_only_when_much_text_has_come():
    loaded = []
    gears = GearChange(lambda: loaded.append(threading.current_thread()), name="tiny")
    gears.note(BULK_TOKENS - 1)
    gears.wait()
    assert not gears.has_begun and not loaded
    gears.note(1)
    gears.note(BULK_TOKENS)
    gears.wait()
    assert gears.has_begun and len(loaded) == 1
    assert loaded[0] is not threading.current_thread()


@pytest.mark.parametrize("daemon", [True, False])
def test_a_gear_that_cannot_be_loaded_is_told_and_not_tried_again(daemon, caplog):
    tried = []

    def load():
        tried.append(threading.current_thread().daemon)
        raise MemoryError("too large")

    gears = GearChange(load, name="tiny", daemon=daemon)
    for _ in range(3):
        gears.note(BULK_TOKENS)
        gears.wait()
    assert tried == [daemon]
    assert "tiny goes on in its first gear: MemoryError" in caplog.text
