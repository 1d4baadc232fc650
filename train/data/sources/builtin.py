"""The built-in corpus: the English documentation in every Python installation.

It consists of the topics of the language reference and the docstrings of the standard library. They
are read from source files without importing the modules. A document is a topic, or a module with
its classes and functions, each docstring once. The corpus differs between versions of Python:

    Python   documents   bytes   sha256
    3.11.7         598   2284758   970f1c9ddf5d1899db840a98f3ee31b915b399b6495cfbcef0458caaeddde7d3
    3.12.1         550   2221559   607464a5e18092117f2217bc5e1b0d47560fbe1dad1f629aefb12c7068a8e6a1
"""

import ast
import functools
import hashlib
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from train.data.sources import text

# Tests, vendored and generated code: not documentation, or not part of every installation.
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "pydoc_data"}


def read() -> text.Strings:
    """Return the built-in corpus as a source."""
    return text.strings(documents())


@functools.cache
def documents() -> tuple[str, ...]:
    """Return the documents ordered by hash, so that the held-out tail is a random sample.

    Raises:
      FileNotFoundError: If this Python was installed without the sources of its library.
    """
    library = Path(sysconfig.get_path("stdlib"))
    texts = {*_topics(library), *_modules(library)}
    if not texts:
        raise FileNotFoundError(
            f"no Python sources in {library} for the built-in corpus: give a text with --text"
        )
    return tuple(sorted(texts, key=lambda document: hashlib.sha256(document.encode()).digest()))


def _topics(library: Path) -> Iterator[str]:
    file = library / "pydoc_data" / "topics.py"
    if file.exists():
        for node in ast.walk(_parse(file)):
            if isinstance(node, ast.Dict):
                yield from (ast.literal_eval(value).strip() for value in node.values)


def _modules(library: Path) -> Iterator[str]:
    seen = set()
    for file in sorted(library.rglob("*.py")):
        parts = file.relative_to(library).with_suffix("").parts
        if not SKIPPED.isdisjoint(parts) or any("-" in part for part in parts):
            continue
        name = ".".join(parts).removesuffix(".__init__")
        entries = []
        for path, docstring in _docstrings(name, _parse(file)):
            if docstring not in seen:
                seen.add(docstring)
                entries.append(f"{path}\n\n{docstring}")
        if entries:
            yield "\n\n".join(entries)


def _docstrings(path: str, node) -> Iterator[tuple[str, str]]:
    """Yield the docstrings of a module, class or function and its members, with dotted names."""
    docstring = ast.get_docstring(node, clean=False)
    if docstring and inspect.cleandoc(docstring):
        yield path, inspect.cleandoc(docstring)
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(f"{path}.{child.name}", child)


def _parse(file: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the standard library
        return ast.parse(file.read_bytes())
