"""The C library is asked to keep freed memory, unless the environment or an accelerator forbids."""

import pytest

from train.devices import malloc


class Library:
    """A C library that notes what it is asked for."""

    def __init__(self, answer: int):
        self.asked, self.answer = [], answer

    def mallopt(self, *setting) -> int:
        self.asked.append(setting)
        return self.answer


@pytest.fixture
def library(monkeypatch):
    """glibc, no accelerator, and nothing of malloc's in the environment."""
    found = Library(answer=1)
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: found)
    monkeypatch.setattr(malloc.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(malloc, "find_spec", lambda name: None)
    monkeypatch.setattr(malloc.os, "environ", {"HOME": "/"})
    return found


def test_freed_memory_is_kept_in_one_heap(library):
    assert malloc.keep_freed_memory()
    # mallopt(3): never trim (-1), no mmap (0), one arena (1).
    assert library.asked == [(-1, -1), (-4, 0), (-8, 1)]


def test_a_library_that_refuses_is_believed(library):
    library.answer = 0
    assert not malloc.keep_freed_memory()


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (malloc.os, "environ", {"MALLOC_ARENA_TEST": "8"}),
        (malloc.platform, "libc_ver", lambda: ("", "")),
        (malloc, "find_spec", lambda name: name == "libtpu"),
    ],
)
def test_nothing_is_asked_where_it_would_not_help(library, monkeypatch, module, name, value):
    monkeypatch.setattr(module, name, value)
    assert not malloc.keep_freed_memory()
    assert not library.asked
