import threading
from concurrent.futures import ThreadPoolExecutor

import torch

from mretrieve.encode.threads import cores, share_cores, take_share


def in_new_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def test_a_thread_takes_its_share_and_no_other_does():
    before = torch.get_num_threads()
    other = before + 1

    def shared():
        share_cores(other)
        take_share()
        return torch.get_num_threads()

    try:
        assert in_new_thread(shared) == other
        take_share()  # none was given to this thread
        assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)  # what new threads begin with


def test_the_share_is_told_before_each_call(monkeypatch):
    told = []
    monkeypatch.setattr(torch, "set_num_threads", lambda n: told.append((threading.get_ident(), n)))

    def shared():
        share_cores(3)
        take_share()
        take_share()
        return threading.get_ident()

    thread = in_new_thread(shared)
    assert told == [(thread, 3), (thread, 3)]


def test_cores_are_what_was_asked_for_or_what_there_is(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert cores() == 5
    for value in ("0", "many", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert cores() >= 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    found = cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert cores() == found
