"""The built-in corpus is two megabytes of English and the same in every process."""

import os
import subprocess
import sys

from train.data.sources import builtin

SCRIPT = """
import sys
from train.data.sources import builtin
print(builtin.read().fingerprint)
print(sorted(set(sys.modules) & {"tkinter", "turtle", "antigravity", "this", "pydoc_data.topics"}))
"""


def test_it_has_about_two_megabytes_in_hundreds_of_documents():
    documents = builtin.documents()
    assert 400 < len(documents) < 900
    assert 1_800_000 < sum(len(document.encode()) for document in documents) < 3_000_000
    assert max(map(len, documents)) < 100_000


def test_two_processes_agree_and_do_not_import_the_documented_modules():
    runs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONPATH": ".", "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] == [builtin.read().fingerprint, "[]"]


def test_the_hash_is_the_one_in_the_docstring():
    version = ".".join(map(str, sys.version_info[:3]))
    stated = {line.split()[0]: line.split()[-1] for line in builtin.__doc__.splitlines() if line}
    assert stated.get(version, builtin.read().fingerprint) == builtin.read().fingerprint


def test_no_document_is_repeated_and_none_is_a_test():
    documents = builtin.documents()
    assert len(set(documents)) == len(documents)
    names = [document.split("\n")[0] for document in documents]
    assert not any(".test" in name or name.startswith(("test", "idlelib")) for name in names)


def test_docstrings_and_topics_are_there():
    documents = builtin.documents()
    json = next(document for document in documents if document.startswith("json\n\nJSON"))
    assert "\n\njson.loads\n\nDeserialize ``s``" in json
    assert any(document.startswith('The "try" statement') for document in documents)


def test_both_halves_have_about_as_many_topics():
    documents = builtin.documents()
    topics = [document.split("\n")[1].startswith("***") for document in documents]
    assert 0.3 < sum(topics[len(topics) // 2 :]) / sum(topics) < 0.7
