"""ELMo's published files: `*_weights.hdf5`, as bilm-tf and AllenNLP read them, and its options.

The weights are those of the trunk, without a softmax. Beside them is a JSON file of options, which
has the same name with "options" for "weights"; it may also be the only one of its folder. The sizes
are those of the arrays, and the options must agree with them.

    char_embed                                     characters from 0, where ours begin at 1
    CNN/W_cnn_{i}, CNN/b_cnn_{i}                   a convolution: [1, K, I, O]
    CNN_high_{i}/W_carry, b_carry, W_transform ... a highway layer
    CNN_proj/W_proj, b_proj
    RNN_{0|1}/RNN/MultiRNNCell/Cell{i}/LSTMCell/   forward and backward, of TensorFlow's LSTMCell:
      W_0 [2E, 4F], B [4F], W_P_0 [F, E]           rows of the input, then of the state

Reading needs h5py, the extra `elmo`. Links, virtual arrays and arrays whose
content is in another file are refused, so that nothing but the file itself is read.

E width of one direction  F of an LSTM cell  I of a character  K of a filter  O number of filters
"""

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from zoo import untrusted
from zoo.formats.weights import Row, fit
from zoo.models.elmo import CLIP, Config, ELMoTrunk
from zoo.tokenizers import Tokenizer, units, word_bytes
from zoo.tokenizers.units import UNKNOWN

HDF5 = b"\x89HDF\r\n\x1a\n"
MOST = 10_000  # names in a file; ELMo has 47
LARGER = 16  # how many times the size of its file the arrays may have, compressed as they may be
CELLS = "RNN_{}/RNN/MultiRNNCell/Cell{}/LSTMCell/{}"


def is_elmo(file: Path) -> bool:
    """Return whether a file is HDF5, by its first bytes."""
    with open(file, "rb") as stream:
        return stream.read(len(HDF5)) == HDF5


def read(file: Path, unchecked: bool = False) -> tuple[Config, dict[str, Any], Tokenizer]:
    """Return the config and the parameters of the trunk, and a tokenizer without words.

    ELMo reads the bytes of a word, so no word needs an id.

    Args:
      file: The file of weights, beside that of options.
      unchecked: Whether weights may be integers or not finite.

    Raises:
      FileNotFoundError: If there is no file of options.
      ValueError: If h5py is not installed, the file is damaged, the options describe
        another network, or the arrays are not those of ELMo; the message lists all that is wrong.
    """
    arrays = _arrays(file)
    options_file = _options_file(file)
    try:
        options = untrusted.read_object(options_file)
        lstm, characters = dict(options["lstm"]), dict(options["char_cnn"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{options_file} is not a file of ELMo's options: it needs lstm and char_cnn ({error})"
        ) from None
    config = _config(file, arrays)
    _check_options(options_file, config, lstm, characters)
    tensors, rows = _split(arrays), _rows(config)
    params = fit(file, ELMoTrunk(config), tensors, rows, unchecked=unchecked)
    return config, params, units.words([UNKNOWN])


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an HDF5 file by their paths."""
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError:
        raise ValueError(
            f"{file} is HDF5, as ELMo was published, which needs h5py: install zoo with its extra "
            "`elmo`, or run `pip install h5py`"
        ) from None
    found: dict[str, Any] = {}
    try:
        with h5py.File(file, "r") as opened:
            waiting = [(name, opened) for name in opened]
            for path, parent in waiting:  # which grows
                if len(waiting) > MOST:
                    raise ValueError(f"it has more than {MOST} names, as no ELMo has")
                name = path.rpartition("/")[2]
                if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"{path} is a link, which could lead to another file")
                if isinstance(child := parent[name], h5py.Group):
                    waiting += [(f"{path}/{inner}", child) for inner in child]
                else:
                    found[path] = child
            _check_storage(file, found)
            arrays = {path: np.asarray(array[()]) for path, array in found.items()}
            return {p: array.astype(array.dtype.newbyteorder("=")) for p, array in arrays.items()}
    except (OSError, RuntimeError, KeyError, TypeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file} is damaged: {reason}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _check_storage(file: Path, arrays: dict[str, Any]) -> None:
    """Raise ValueError unless all arrays are numbers within the file."""
    for name, array in arrays.items():
        if array.external or array.is_virtual:
            raise ValueError(f"the content of {name} is in another file")
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} has the type {array.dtype}, which is no number")
    size = sum(array.size * array.dtype.itemsize for array in arrays.values())
    if size > LARGER * file.stat().st_size:
        raise ValueError(f"its arrays take {size:,} bytes, many times the size of the file")


def _options_file(file: Path) -> Path:
    expected = file.with_name(re.sub(r"weights(?!.*weights)", "options", file.stem) + ".json")
    others = sorted(file.parent.glob("*options*.json"))
    if expected.is_file():
        return expected
    if len(others) == 1:
        return others[0]
    raise FileNotFoundError(
        f"{file} needs its options, which were published beside it: no such file: {expected}"
    )


def _config(file: Path, arrays: dict[str, np.ndarray]) -> Config:
    """Return the config that the shapes of the arrays have."""

    def numbered(name: str) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        while (array := arrays.get(name.format(len(found)))) is not None:
            found.append(array)
        return found

    cells, filters = numbered(CELLS.format(0, "{}", "W_P_0")), numbered("CNN/W_cnn_{}")
    shapes = [array.shape for array in (*cells[:1], *filters)]
    if not cells or not filters or [len(shape) for shape in shapes] != [2] + [4] * len(filters):
        raise ValueError(
            f"{file} is not a file of ELMo's weights: it needs convolutions such as CNN/W_cnn_0, "
            f"and LSTMs with a projection such as {CELLS.format(0, 0, 'W_P_0')}"
        )
    (cell_width, width), *of_filters = shapes
    return Config(
        num_layers=len(cells),
        width=2 * width,
        embed_width=of_filters[0][2],
        cell_width=cell_width,
        num_highway=len(numbered("CNN_high_{}/W_carry")),
        filters=tuple((shape[1], shape[3]) for shape in of_filters),
    )


def _check_options(file: Path, c: Config, lstm: dict, characters: dict) -> None:
    """Raise ValueError if the options are not those of the weights, or of this ELMo."""
    supported = {
        "cell_clip": (lstm.get("cell_clip"), CLIP),
        "proj_clip": (lstm.get("proj_clip"), CLIP),
        "use_skip_connections": (lstm.get("use_skip_connections", False), True),
        "activation": (characters.get("activation"), "relu"),
        "max_characters_per_token": (characters.get("max_characters_per_token"), word_bytes.LENGTH),
    }
    if c.num_layers == 1:
        del supported["use_skip_connections"]
    sizes = {
        "projection_dim": (lstm.get("projection_dim"), c.width // 2),
        "dim": (lstm.get("dim"), c.cell_width),
        "n_layers": (lstm.get("n_layers", 1), c.num_layers),
        "n_highway": (characters.get("n_highway") or 0, c.num_highway),
        "filters": (characters.get("filters"), [list(filter) for filter in c.filters]),
    }
    problems = [
        f"{name} = {theirs!r}, where zoo supports {ours!r} only"
        for name, (theirs, ours) in supported.items()
        if theirs != ours
    ] + [
        f"{name} = {theirs!r}, but the weights have {ours!r}"
        for name, (theirs, ours) in sizes.items()
        if theirs != ours
    ]
    if problems:
        raise ValueError(f"{file} has " + "; ".join(problems))


def _split(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays with those of the input and of the state apart, and 0 for no character."""
    tensors = dict(arrays)
    for name, array in arrays.items():
        if name.endswith("/W_0") and array.ndim == 2 and len(array) % 2 == 0:
            del tensors[name]
            tensors[f"{name}[input]"], tensors[f"{name}[state]"] = np.split(array, 2)
    if (characters := tensors.get("char_embed")) is not None and characters.ndim == 2:
        tensors["char_embed"] = np.pad(characters, ((1, 0), (0, 0)))
    return tensors


def _rows(c: Config) -> dict[str, Row]:
    """Return where each parameter is in the arrays of `_split`."""
    I, E, F, O = c.embed_width, c.width // 2, c.cell_width, sum(size for _, size in c.filters)
    rows = {
        "embedding/embedding": Row("char_embed", (word_bytes.NUM_IDS, I)),
        "projection/kernel": Row("CNN_proj/W_proj", (O, E)),
        "projection/bias": Row("CNN_proj/b_proj", (E,)),
    }
    for i, (width, size) in enumerate(c.filters):
        rows[f"convolutions_{i}/kernel"] = Row(f"CNN/W_cnn_{i}", (1, width, I, size))
        rows[f"convolutions_{i}/bias"] = Row(f"CNN/b_cnn_{i}", (size,))
    for i in range(c.num_highway):
        rows[f"highways_{i}/carry_kernel"] = Row(f"CNN_high_{i}/W_carry", (O, O))
        rows[f"highways_{i}/carry_bias"] = Row(f"CNN_high_{i}/b_carry", (O,))
        rows[f"highways_{i}/transform/kernel"] = Row(f"CNN_high_{i}/W_transform", (O, O))
        rows[f"highways_{i}/transform/bias"] = Row(f"CNN_high_{i}/b_transform", (O,))
    rows = {f"trunk/characters/{path}": row for path, row in rows.items()}
    for number, direction in enumerate(("forward", "backward")):
        for i in range(c.num_layers):
            name = CELLS.format(number, i, "{}")
            rows |= {
                f"trunk/{direction}/layers_{i}/{path}": row
                for path, row in {
                    "input_kernel": Row(name.format("W_0[input]"), (E, 4 * F)),
                    "recurrent_kernel": Row(name.format("W_0[state]"), (E, 4 * F)),
                    "bias": Row(name.format("B"), (4 * F,)),
                    "projection_kernel": Row(name.format("W_P_0"), (F, E)),
                }.items()
            }
    return rows
