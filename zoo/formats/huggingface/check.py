"""What is wrong with a config.json, all of it in one error."""

import dataclasses
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, get_origin

from zoo.formats.huggingface.format import MEANINGS, NULL_THRESHOLD, Field, Format

# Numbers of blocks. Each is traced before the first tensor is missed, so there are bounds.
DEPTHS = (
    *("num_layers", "num_decoder_layers", "num_groups", "group_blocks"),
    *("generator_layers", "depths"),
)
MOST_BLOCKS = 256
VALUED = ("activation", *MEANINGS)  # whose values have more than one published name, or old fields
LARGEST = 2**31 - 1
FROM_ZERO = ("start", "end", "generator_layers")  # ids, and a generator of embeddings alone
MOST_LABELS = 2**20
REGRESSION, MULTI_LABEL = "regression", "multi_label_classification"
PROBLEM_TYPES = (None, REGRESSION, "single_label_classification", MULTI_LABEL)


def check_config(folder: str | os.PathLike, format: Format, published: Mapping[str, Any]) -> Any:
    """Return our Config for a config.json.

    Raises:
      ValueError: If fields have values that no model has, or that ask for different mathematics;
        the message lists all of them.
    """
    problems = [text for row in format.fields.items() for text in _field(format, row, published)]
    problems += _head(format, published)
    config, expected = None, dict(format.constants)
    if not problems:
        try:
            config = format.to_config(published)
            problems += _sizes(format, config)
            expected = format.describe(config)
        except ValueError as error:
            problems.append(str(error))
    problems += _unlike(format, expected, published)
    if problems:
        raise ValueError(f"{folder}/config.json has " + "; ".join(problems))
    return config


def _field(format: Format, row: tuple[str, Field], published: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the values of one of our fields."""
    ours, (names, _) = row
    kind = next(f.type for f in dataclasses.fields(format.config_class) if f.name == ours)
    names = (names,) if isinstance(names, str) else names
    given = {name: published[name] for name in names if name in published}
    problems = []
    for name, value in given.items():
        if value is None and (name != names[0] or name in format.nullable or ours in MEANINGS):
            continue
        wanted = _wanted(ours, kind, value)
        if wanted:
            problems.append(f"{name} = {value!r:.60}, expected {wanted}")
        elif ours == "activation":
            try:
                format.activation(value)
            except ValueError as error:
                problems.append(f"{name} = {error}")
    return problems


def _wanted(ours: str, kind: Any, value: Any) -> str | None:
    """Return what a value should have been, or None if it is right."""
    if ours in MEANINGS:
        return None if isinstance(value, bool) else "true or false"
    if kind is str:
        return None if isinstance(value, str) else "a name"
    if kind is float:
        most = 1.0 if "dropout" in ours else sys.float_info.max
        is_right = type(value) in (int, float) and 0 <= value <= most
        return None if is_right else f"a number from 0{' to 1' if most == 1 else ''}"
    least = 0 if ours in FROM_ZERO else 1
    most = MOST_BLOCKS if ours in DEPTHS else LARGEST
    is_list = get_origin(kind) is tuple
    numbers = value if is_list and isinstance(value, list) else [value]
    is_right = all(type(x) is int and least <= x <= most for x in numbers)
    is_right &= isinstance(value, list) == is_list
    which = "whole numbers" if is_list else "a whole number"
    return None if is_right else f"{which} from {least:,} to {most:,}"


def _sizes(format: Format, config: Any) -> list[str]:
    """Return which sizes of a config do not go together."""
    published = lambda ours: f"{_published(format, ours)} = {getattr(config, ours)}"
    problems = []
    if getattr(config, "max_length", 1) < 1:
        problems.append(f"{_published(format, 'max_length')} that leaves no position for a text")
    for heads in ("num_heads", "decoder_heads"):
        number = getattr(config, heads, None)
        if number and "head_width" not in format.fields and config.width % number:
            problems.append(f"{published('width')}, not a multiple of {published(heads)}")
    for ours in ("start", "end"):
        if getattr(config, ours, 0) >= getattr(config, "vocab_size", math.inf):
            problems.append(f"{published(ours)}, outside of {published('vocab_size')}")
    blocks = getattr(config, "group_blocks", 1)
    if blocks > 1 and blocks * max(config.num_layers, config.num_groups) > MOST_BLOCKS:
        problems.append(f"{published('group_blocks')}, which makes more than {MOST_BLOCKS} blocks")
    return problems


def label_problems(published: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the classes of a head."""
    problems = []
    count, names = published.get("num_labels"), published.get("id2label")
    if not (count is None or (type(count) is int and 0 <= count <= MOST_LABELS)):
        problems.append(f"num_labels = {count!r:.60}, expected up to {MOST_LABELS:,}")
    if isinstance(names, dict) and len(names) > MOST_LABELS:
        problems.append(f"{len(names):,} names in id2label, expected up to {MOST_LABELS:,}")
    elif names:
        is_right = isinstance(names, dict) and all(isinstance(x, str | int) for x in names.values())
        numbers = {str(i) for i in range(len(names))} if is_right else set()
        if not is_right or numbers != names.keys():
            problems.append(f"id2label = {names!r:.60}, expected names of the numbers from 0")
    return problems


def _head(format: Format, published: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the fields of a head for a task."""
    if problems := label_problems(published):
        return problems
    names = published.get("architectures") or [""]
    if not isinstance(names, list) or not isinstance(names[0], str):
        return [f"architectures = {names!r:.60}, expected a list of names"]
    problem = published.get("problem_type")
    if f"{names[0]}[{MULTI_LABEL}]" in format.classes:
        count = len(published.get("id2label") or ()) or published.get("num_labels", 2)
        if problem not in PROBLEM_TYPES:
            problems.append(f"problem_type = {problem!r:.60}, expected one of {PROBLEM_TYPES[1:]}")
        elif problem == REGRESSION and count != 1:
            problems.append(f"problem_type = {problem!r} with {count} labels; zoo supports one")
    threshold = published.get(NULL_THRESHOLD)
    if not (threshold is None or type(threshold) in (int, float)):
        problems.append(f"{NULL_THRESHOLD} = {threshold!r:.60}, expected a number")
    return problems


def _published(format: Format, ours: str) -> str:
    names, _ = format.fields[ours]
    return names if isinstance(names, str) else names[0]


def _unlike(format: Format, expected: Mapping[str, Any], published: Mapping[str, Any]) -> list[str]:
    """Return the fields that ask for different mathematics."""
    valued = [names for ours, (names, _) in format.fields.items() if ours in VALUED]
    skipped = {"model_type"}.union(*({x} if isinstance(x, str) else x for x in valued))
    return [
        f"{name} = {published[name]!r:.60}; zoo supports {value!r} only"
        for name, value in expected.items()
        if published.get(name) not in (None, value) and name not in skipped and "drop" not in name
    ]
