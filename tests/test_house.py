"""The rules of the house that a test can check."""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import pytest
from flax import linen as nn

from tests import tiny

ROOT = Path(__file__).parents[1]
ZOO = sorted((ROOT / "zoo").rglob("*.py"))
SOURCES = ZOO + sorted((ROOT / "train").rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in SOURCES}
named = lambda path: str(path.relative_to(ROOT))
files = pytest.mark.parametrize("path", SOURCES, ids=named)


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_the_top(tree):
    """What runs on import: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_the_top(node)


def starts_with(name, *packages):
    return name.split(".")[0] in packages


def test_there_are_sources():
    assert len(ZOO) > 8
    assert len(SOURCES) > 30


@pytest.mark.parametrize("path", ZOO, ids=named)
def test_zoo_imports_nothing_of_train(path):
    assert not [name for name in imports(TREES[path]) if starts_with(name, "train", "tests")]


@pytest.mark.parametrize("path", ZOO, ids=named)
def test_zoo_imports_no_trainers_library(path):
    heavy = ("torch", "tensorflow", "transformers", "optax", "grain", "tensorflow_datasets")
    assert not [name for name in imports(TREES[path]) if starts_with(name, *heavy)]


@files
def test_no_framework_is_imported_at_the_top(path):
    top = ast.Module([n for n in at_the_top(TREES[path])], [])
    names = {
        name
        for node in top.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imports(ast.Module([node], []))
    }
    assert not [n for n in names if starts_with(n, "torch", "tensorflow", "transformers")]


@files
def test_file_names_say_something(path):
    assert path.stem not in ("utils", "common", "helpers", "helper", "misc", "base", "core")


@files
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 300


@files
def test_nothing_of_the_past_is_used(path):
    text = path.read_text()
    past = r"jax_utils|FrozenDict|device_put_replicated|device_put_sharded|jax\._src|deterministic="
    assert not re.findall(past, text)
    if named(path) != "train/devices/placement.py":
        assert not re.findall(r"\bjax\.pmap\b|import pmap", text)


@files
def test_all_that_is_public_has_a_docstring(path):
    tree = TREES[path]
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert ast.get_docstring(tree)
    missing = [node.name for node in public if not ast.get_docstring(node)]
    assert not missing


def classes():
    for path in ZOO:
        name = named(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        module = importlib.import_module(name)
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == name:
                yield cls


def test_nothing_in_zoo_has_a_boolean_field():
    switches, seen = [], 0
    for cls in classes():
        if dataclasses.is_dataclass(cls):
            seen += 1
            own = inspect.get_annotations(cls)
            switches += [f"{cls.__name__}.{name}" for name, kind in own.items() if kind is bool]
    assert seen > 15
    assert not switches


def test_zoo_dataclasses_that_are_values_are_frozen():
    for cls in classes():
        if dataclasses.is_dataclass(cls) and not issubclass(cls, nn.Module):
            assert cls.__dataclass_params__.frozen, cls


ORDER = ("Config", "SIZES", "EPSILON", "Model", "PREFIX", "WEIGHTS", "TIED", "IGNORED")
ORDER += ("TOKENIZER", "AXES", "published", "from_published")
FIELDS = ["vocab_size", "max_length", "num_layers", "num_heads", "width", "mlp_width"]
FIELDS += ["head_width", "dropout"]


@pytest.mark.parametrize("name", tiny.TABLE)
def test_model_files_have_one_order(name):
    module = tiny.TABLE[name].architecture
    names = []
    for node in TREES[Path(module.__file__)].body:
        if isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
    recurrent = not hasattr(module.Config, "num_heads")  # neither norms nor heads
    order = [n for n in ORDER if n != "EPSILON" or not recurrent]
    fields = [
        f for f in FIELDS if f not in ("num_heads", "mlp_width", "head_width") or not recurrent
    ]
    assert [n for n in names if n in ORDER] == order
    whole = names.index(module.Model.__name__)
    assert whole == names.index("Model") - 1  # the model with its head comes last of the classes
    assert "https://" in module.__doc__
    assert re.search(r"\(\w+ et al\. \d{4}\)", module.__doc__)
    assert [field.name for field in dataclasses.fields(module.Config)][: len(fields)] == fields


@pytest.mark.parametrize("name", tiny.TABLE)
def test_train_is_the_only_flag_and_is_keyword_only(name):
    module, seen = tiny.TABLE[name].architecture, 0
    for node in ast.walk(TREES[Path(module.__file__)]):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            assert "train" not in [a.arg for a in arguments.args], node.name
            booleans = [
                a.arg
                for a in arguments.args + arguments.kwonlyargs
                if a.annotation is not None and ast.unparse(a.annotation) == "bool"
            ]
            seen += booleans == ["train"]
            assert set(booleans) <= {"train"}, node.name
    assert seen >= 3


def test_the_commands_of_the_readme_exist():
    from train.__main__ import COMMANDS

    text = (ROOT / "README.md").read_text()
    blocks = [block for block in text.split("```")[1::2] if not block.startswith("python")]
    used = {name for block in blocks for name in re.findall(r"(?m)^(?:\$ )?zoo ([\w-]+)", block)}
    assert used
    assert used <= set(COMMANDS)
