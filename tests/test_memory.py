import subprocess
import sys

import pytest

from mretrieve import memory

HOLES = """
import ctypes
from pathlib import Path
from mretrieve.memory import keep_freed_buffers, return_freed_pages

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
keep_freed_buffers()
before, size = rss(), 8 << 20
blocks = []
for _ in range(8):
    blocks.append(libc.malloc(size))
    ctypes.memset(blocks[-1], 1, size)
    libc.malloc(64)  # what keeps the heap from shrinking
used = rss()
for block in blocks:
    libc.free(block)
kept = rss()
return_freed_pages()
print(used - before, kept - before, rss() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_freed_buffers_are_kept_until_their_pages_are_returned():
    found = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True).stdout
    used, kept, returned = map(int, found.split())
    assert used > 60 << 20
    assert kept > 60 << 20
    assert returned < 4 << 20


def test_without_glibc_nothing_happens(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    memory.return_large_buffers()
    memory.keep_freed_buffers()
    memory.return_freed_pages()
