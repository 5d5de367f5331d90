"""How this process keeps freed memory and returns it, where its allocator is glibc's."""

import ctypes
import logging

logger = logging.getLogger(__name__)

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_HUGE = 1 << 30


def keep_freed_buffers() -> None:
    """Have freed buffers kept instead of returned to the kernel one by one.

    Every layer makes buffers of the same sizes; page-faulting them in anew costs a third of the time.
    """
    _mallopt(_MMAP_THRESHOLD, _HUGE)
    _mallopt(_TRIM_THRESHOLD, _HUGE)


def return_large_buffers() -> None:
    """Have each large buffer get pages of its own, which go back to the kernel with it."""
    _mallopt(_MMAP_THRESHOLD, 1 << 20)


def return_freed_pages() -> None:
    """Return what is free now, also between buffers in use.

    Under loads of mixed sizes, kept buffers leave holes that add up over hours; a call now and then returns
    them, in some ten milliseconds.
    """
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        logger.debug("No glibc: memory is returned as the system does it.")


def _mallopt(parameter: int, value: int) -> None:
    try:
        ctypes.CDLL("libc.so.6").mallopt(parameter, value)
    except (OSError, AttributeError):
        logger.debug("No glibc: buffers are allocated as the system does it.")
