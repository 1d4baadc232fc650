"""Check the shapes that names state: every local `name_ABC` has as many axes as letters, and within
a call a letter has one size."""

import contextlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WATCHED_FOLDERS = (ROOT / "zoo", ROOT / "train" / "objectives")
# `l` is a chunk of L; a suffix has at least one capital or is one digit long.
SUFFIX = re.compile(r"_([A-Z0-9][A-Zl0-9]*)$")


@contextlib.contextmanager
def checked(*folders):
    """Watch the functions of these folders (default: those of WATCHED_FOLDERS).

    Yields the set of the places checked, "file:function:name"; raises AssertionError on leaving if
    a name is wrong.
    """
    watched_folders = tuple(f"{folder}/" for folder in folders or WATCHED_FOLDERS)
    checked_places, wrong = set(), []

    def watch(frame, event, _):
        code = frame.f_code
        if event == "return" and code.co_filename.startswith(watched_folders):
            place = f"{Path(code.co_filename).name}:{code.co_qualname}"
            _check(place, dict(frame.f_locals), checked_places, wrong)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield checked_places
    finally:
        sys.setprofile(before)
    assert not wrong, "\n".join(wrong)


def _check(place, names, seen, wrong):
    # A local `L` is the size of the letter too.
    sizes = {x: (n, x) for x, n in names.items() if re.fullmatch("[A-Z]", x) and type(n) is int}
    for name, value in names.items():
        letters, shape = SUFFIX.search(name), getattr(value, "shape", None)
        if letters is None or not isinstance(shape, tuple):
            continue
        seen.add(f"{place}:{name}")
        if len(letters[1]) != len(shape):
            wrong.append(f"{place}: {name} has the shape {shape}")
            continue
        for letter, size in zip(letters[1], shape, strict=True):
            expected, source = (int(letter), "itself") if letter.isdigit() else (size, name)
            if not letter.isdigit():
                expected, source = sizes.setdefault(letter, (size, name))
            if size != expected:
                wrong.append(
                    f"{place}: {name} has the shape {shape}, but {letter} is {expected} in {source}"
                )
