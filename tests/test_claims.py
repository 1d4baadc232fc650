"""Every claim of the lecture notes has a row in notebooks/README.md and a cell that asserts it."""

import ast
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CLAIMS = {
    "01_recurrent_networks": "R1 R2 R3 R4",
    "02_sequence_to_sequence": "R5 R6 R7 A1 A2 A3 A5 A6 A7",
    "03_transformer": "A8 A9 T1 T2 T3 T4 T5 T6 T7 T8 T9 T10 T11 T12 T13",
    "04_words": "W1 W2 W3 W4 W5 W6 W7 W8 W9",
    "05_language_models": "L1 L2 L3 L4 L5 L6 L7 L8 A4",
    "06_contextual_vectors": "C1 C2 C3",
    "07_transfer": "C4 C5 C6",
    "08_gpt": "G1 G2 G3 G4",
    "09_bert": "G5 C7 B1 B2 B3 B4 B5",
    "10_after_bert": "P1 P2 P3 P4 P5",
    "11_distillation": "D1 D2 D3",
}
written = pytest.mark.parametrize(
    "name", [name for name in CLAIMS if (NOTEBOOKS / f"{name}.py").exists()]
)


def sections() -> dict[str, list[list[str]]]:
    """Return the cells of the table rows of each notebook's section in the README."""
    tables: dict[str, list[list[str]]] = {}
    for line in (NOTEBOOKS / "README.md").read_text().splitlines():
        if heading := re.match(r"## \[.*\]\((\w+)\.ipynb\)", line):
            rows = tables.setdefault(heading[1], [])
        elif re.match(r"\| [A-Z]\d+ \|", line):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return tables


@written
def test_each_claim_has_one_row_with_all_columns(name):
    rows = sections()[name]
    assert [row[0] for row in rows] == CLAIMS[name].split()
    assert all(len(row) == 4 and all(row) for row in rows)


@written
def test_each_claim_has_a_cell_that_asserts(name):
    asserted = set()
    for cell in (NOTEBOOKS / f"{name}.py").read_text().split("\n# %%"):
        first, *rest = cell.strip().split("\n")
        if re.fullmatch(r"# [A-Z]\d+(, [A-Z]\d+)*", first):
            tree = ast.parse("\n".join(rest))
            asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
            # An assertion of a constant cannot fail.
            if any(not isinstance(node.test, ast.Constant) for node in asserts):
                asserted |= set(first[2:].split(", "))
    assert asserted == set(CLAIMS[name].split())


def test_a_section_stands_for_each_notebook():
    assert list(sections()) == list(CLAIMS)
