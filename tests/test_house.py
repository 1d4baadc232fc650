"""Rules for the source code that a test can check."""

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
relative_name = lambda path: str(path.relative_to(ROOT))


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_level_nodes(tree):
    """Yield the nodes that run on import: all but the bodies of functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from top_level_nodes(node)


def starts_with(name, *packages):
    return name.split(".")[0] in packages


def offenders(check, paths=SOURCES) -> list[str]:
    """Return `file: violation` for every violation that `check(path)` yields."""
    return [f"{relative_name(path)}: {wrong}" for path in paths for wrong in check(path)]


def test_source_files_are_found():
    assert len(ZOO) > 8
    assert len(SOURCES) > 30


def test_zoo_imports_neither_train_nor_libraries_for_training():
    heavy = ("torch", "tensorflow", "transformers", "optax", "grain", "tensorflow_datasets")
    wrong = lambda path: [
        name for name in imports(TREES[path]) if starts_with(name, "train", "tests", *heavy)
    ]
    assert not offenders(wrong, ZOO)


def test_no_framework_is_imported_at_module_level():
    frameworks = "torch", "tensorflow", "transformers"
    wrong = lambda path: [
        name
        for node in top_level_nodes(TREES[path])
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in imports(ast.Module([node], []))
        if starts_with(name, *frameworks)
    ]
    assert not offenders(wrong)


# What a package may import: those of the rows below, and of its own row only itself.
ZOO_LAYERS = (
    ("inference", "vocabulary"),
    ("checkpoints",),
    ("formats",),
    ("registry",),
    ("models",),
    ("layers",),
    ("params", "tokenizers", "version", "contracts", "direction"),
    ("untrusted",),
)
TRAIN_LAYERS = (
    ("__main__",),
    ("commands",),
    ("racing",),
    ("planning",),
    ("pretraining", "finetuning", "counting"),
    ("loop",),
    ("step", "row_step", "checkpoint", "recipes", "devices", "reporting", "metrics"),
    ("objectives", "data", "optimization"),
    ("ranges", "unused"),
)


def package_of(module: str) -> tuple[str, str] | None:
    """Return ("zoo", "models") for zoo.models.bert, and None for zoo itself."""
    package, *rest = module.split(".")
    return (package, rest[0]) if package in ("zoo", "train") and rest else None


def own_imports(tree):
    """Yield the modules of this project that a file imports, without the names in them."""
    for name in imports(tree):
        parts = name.split(".")
        if parts[0] in ("zoo", "train"):
            while parts and not is_module(parts):
                parts.pop()
            yield ".".join(parts)


def is_module(parts) -> bool:
    path = ROOT.joinpath(*parts)
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def test_packages_import_only_those_below():
    level = {
        (package, name): number
        for package, rows in (("zoo", ZOO_LAYERS), ("train", TRAIN_LAYERS))
        for number, row in enumerate(rows)
        for name in row
    }
    assert set(level) >= {
        (path.parent.name, path.stem)
        for package in ("zoo", "train")
        for path in (ROOT / package).glob("*.py")
        if path.stem != "__init__"
    }, "a new module or package needs a place in the order"

    def wrong(path):
        package, *rest = path.relative_to(ROOT).with_suffix("").parts
        here = (package, rest[0])
        if rest == ["__init__"]:  # the public names of the package
            return
        for module in own_imports(TREES[path]):
            there = package_of(module)
            if there is None:
                if module == package:
                    yield f"imports {package} itself"
            elif there == here or there[0] != package:
                continue
            elif there not in level or here not in level:
                yield f"{there} has no place in the order"
            elif level[there] < level[here]:
                yield f"imports {module}, which is above"

    assert not offenders(wrong)


def test_neither_packages_nor_modules_import_each_other_in_a_cycle():
    modules, packages = {}, {}
    for path, tree in TREES.items():
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        imported = set(own_imports(tree)) - {name}
        if parts[-1] == "__init__":  # a package may import its own modules
            imported = set()
        modules[name] = imported
        if package_of(name):
            imported_packages = {package_of(other) for other in imported} - {None, package_of(name)}
            packages.setdefault(package_of(name), set()).update(imported_packages)
    assert not find_cycle(packages)
    assert not find_cycle(modules)


def find_cycle(graph: dict) -> list:
    """Return the nodes of one import cycle, or an empty list."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        cycle = next((c for n in sorted(graph.get(node, ())) if (c := visit(n))), [])
        path.pop()
        done.add(node)
        return cycle

    return next((c for node in sorted(graph) if (c := visit(node))), [])


def test_no_function_of_zoo_imports_another_file_of_zoo():
    def wrong(path):
        top = {id(node) for node in top_level_nodes(TREES[path])}
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in top:
                yield from own_imports(ast.Module([node], []))

    assert not offenders(wrong, ZOO)


def test_file_names_are_specific():
    vague = ("utils", "common", "helpers", "helper", "misc", "base", "core")
    assert not [relative_name(path) for path in SOURCES if path.stem in vague]


def test_no_deprecated_api_is_used():
    past = r"jax_utils|FrozenDict|device_put_replicated|device_put_sharded|jax\._src|deterministic="
    pmap = r"\bjax\.pmap\b|import pmap"
    devices = ROOT / "train" / "devices"
    wrong = lambda path: re.findall(
        past if devices in path.parents else f"{past}|{pmap}", path.read_text()
    )
    assert not offenders(wrong)


def is_overload(node) -> bool:
    """Return whether a definition is only an overload, for type checkers."""
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def test_everything_public_has_a_docstring():
    def wrong(path):
        tree = TREES[path]
        if not ast.get_docstring(tree):
            yield "the module"
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
            public = public and not is_overload(node)
            if public and not ast.get_docstring(node):
                yield node.name

    assert not offenders(wrong)


def classes():
    for path in ZOO:
        name = relative_name(path).removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        module = importlib.import_module(name)
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__ == name:
                yield cls


def test_nothing_in_zoo_has_a_boolean_field():
    boolean_fields, count = [], 0
    for cls in classes():
        if dataclasses.is_dataclass(cls):
            count += 1
            own = inspect.get_annotations(cls)
            boolean_fields += [
                f"{cls.__name__}.{name}" for name, kind in own.items() if kind is bool
            ]
    assert count > 15
    assert not boolean_fields


def test_zoo_dataclasses_that_are_values_are_frozen():
    for cls in classes():
        if dataclasses.is_dataclass(cls) and not issubclass(cls, nn.Module):
            assert cls.__dataclass_params__.frozen, cls


ORDER = ("Config", "SIZES", "Model", "MODELS", "TASKS", "GROUPS", "AXES")
FIELDS = ["vocab_size", "max_length", "num_layers", "num_heads", "width", "mlp_width"]
FIELDS += ["head_width", "dropout"]


@pytest.mark.parametrize("name", tiny.TABLE)
def test_model_files_have_one_order(name):
    module = tiny.TABLE[name].architecture
    names = []
    for node in TREES[Path(module.__file__)].body:
        if isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
    recurrent = not hasattr(module.Config, "num_heads")  # neither norms nor heads
    fields = [
        f for f in FIELDS if f not in ("num_heads", "mlp_width", "head_width") or not recurrent
    ]
    assert [n for n in names if n in ORDER] == list(ORDER)
    position = names.index(module.Model.__name__)
    assert position == names.index("Model") - 1  # the model with its head is the last class
    assert "https://" in module.__doc__
    assert re.search(r"\([\w ]+ et al\. \d{4}\)", module.__doc__)
    assert [field.name for field in dataclasses.fields(module.Config)][: len(fields)] == fields


@pytest.mark.parametrize("name", tiny.TABLE)
def test_train_is_the_only_flag_and_is_keyword_only(name):
    module, count = tiny.TABLE[name].architecture, 0
    for node in ast.walk(TREES[Path(module.__file__)]):
        if isinstance(node, ast.FunctionDef):
            arguments = node.args
            assert "train" not in [a.arg for a in arguments.args], node.name
            booleans = [
                a.arg
                for a in arguments.args + arguments.kwonlyargs
                if a.annotation is not None and ast.unparse(a.annotation) == "bool"
            ]
            count += booleans == ["train"]
            assert set(booleans) <= {"train"}, node.name
    assert count >= 3


def test_the_commands_of_the_readme_exist():
    from train.__main__ import COMMANDS

    text = (ROOT / "README.md").read_text()
    blocks = [block for block in text.split("```")[1::2] if not block.startswith("python")]
    used = {name for block in blocks for name in re.findall(r"(?m)^(?:\$ )?zoo ([\w-]+)", block)}
    assert used
    assert used <= set(COMMANDS)
