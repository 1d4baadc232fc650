"""The C library is set to keep freed memory, unless the environment or an accelerator forbids."""

import pytest

from train.devices import malloc


class Library:
    """A C library that records its settings."""

    def __init__(self, status: int):
        self.settings, self.status = [], status

    def mallopt(self, *setting) -> int:
        self.settings.append(setting)
        return self.status


@pytest.fixture
def library(monkeypatch):
    """Provide glibc, no accelerator, and no variables of malloc in the environment."""
    c_library = Library(status=1)
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: c_library)
    monkeypatch.setattr(malloc.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(malloc, "find_spec", lambda name: None)
    monkeypatch.setattr(malloc.os, "environ", {"HOME": "/"})
    return c_library


def test_freed_memory_is_kept_in_one_heap(library):
    assert malloc.keep_freed_memory()
    # mallopt(3): never trim (-1), no mmap (0), one arena (1).
    assert library.settings == [(-1, -1), (-4, 0), (-8, 1)]


def test_a_refusal_of_the_library_is_returned(library):
    library.status = 0
    assert not malloc.keep_freed_memory()


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (malloc.os, "environ", {"MALLOC_ARENA_TEST": "8"}),
        (malloc.platform, "libc_ver", lambda: ("", "")),
        (malloc, "find_spec", lambda name: name == "libtpu"),
    ],
)
def test_nothing_is_set_where_it_would_not_help(library, monkeypatch, module, name, value):
    monkeypatch.setattr(module, name, value)
    assert not malloc.keep_freed_memory()
    assert not library.settings
