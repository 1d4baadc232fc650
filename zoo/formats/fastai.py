"""fastai's AWD-LSTM: files by torch.save of a language model, and the words of its vocabulary.

    0.encoder.weight                    the embeddings
    0.encoder_dp.emb.weight             again, as is 1.decoder.weight; both must be equal to it
    0.rnns.{i}.weight_hh_l0_raw         the recurrent kernel
    0.rnns.{i}.module.weight_hh_l0      the same with the last dropout of the training; not a weight
    0.rnns.{i}.module.weight_ih_l0, bias_ih_l0, bias_hh_l0
    1.decoder.bias                      zeros if it is missing, as in the models of 2018

`learn.save` puts them under "model" beside the state of the optimizer, which is left out. The names
of 2018, of the paper's own models, are read too: 0.encoder_with_dropout.embed.weight and
0.rnns.{i}.module.weight_hh_l0_raw.

The words are a pickled list, `itos*.pkl`, in the folder of the file. Their texts have to be
prepared as fastai does, with words between white space. The files say neither which way a model
reads, which is backward if "bwd" or "backward" is in the name of the file, nor the dropout rates,
which are fastai's for a language model.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.formats import pickle, torch_lstm
from zoo.formats.weights import Row, fit
from zoo.models.awd_lstm import AWDLSTMLM, Config
from zoo.tokenizers import Tokenizer, units

EMBEDDING, HEAD, BIAS = "0.encoder.weight", "1.decoder.weight", "1.decoder.bias"
COPIES = (HEAD, "0.encoder_dp.emb.weight", "0.encoder_with_dropout.embed.weight")
RECORDS = {("fastcore.foundation", "L"): pickle.Record}  # a list in the state of the optimizer
UNKNOWNS = ("xxunk", "_unk_")  # since fastai 1.0, and before


def is_fastai(saved: Mapping[str, Any]) -> bool:
    """Return whether the outline of a file is that of fastai's AWD-LSTM, or of a part of one."""
    names = saved.get("model", saved)
    return isinstance(names, dict) and any(
        re.match(r"(0\.)?(module\.)?rnns\.\d", str(name)) for name in names
    )


def read(file: Path, unchecked: bool = False) -> tuple[Config, dict[str, Any], Tokenizer | None]:
    """Return the config, the parameters, and the tokenizer, or None without a vocabulary.

    Args:
      file: The file of weights.
      unchecked: Whether weights may be integers or not finite.

    Raises:
      ValueError: If the file is damaged, or is not of a language model that our AWD-LSTM is, or if
        the vocabulary is not one of its size; the message lists all that is wrong.
    """
    tensors = _tensors(file)
    config = _config(file, tensors)
    kernels = [_kernel(number, tensors) for number in range(config.num_layers)]
    copies = [name for name in COPIES if name in tensors]
    params = fit(
        file,
        AWDLSTMLM(config),
        {BIAS: np.zeros(config.vocab_size, np.float32), **tensors},
        _rows(config, kernels),
        ignored=[*copies, *_last_dropped(tensors, kernels)],
        unchecked=unchecked,
    )
    for name in copies:
        if not np.array_equal(tensors[name], tensors[EMBEDDING], equal_nan=unchecked):
            raise ValueError(
                f"{file}: {name} differs from {EMBEDDING}; zoo's AWD-LSTM has one table for both"
            )
    return config, params, _tokenizer(file, config.vocab_size)


def _tensors(file: Path) -> dict[str, np.ndarray]:
    saved = pickle.read(file, RECORDS)
    tensors = saved.get("model", saved)
    wrong = [name for name, array in tensors.items() if not isinstance(array, np.ndarray)]
    if wrong:
        raise ValueError(f"{file} has {str(wrong[0])!r:.60}, which is no tensor")
    for name in (EMBEDDING, HEAD):
        if name not in tensors:
            raise ValueError(
                f"{file} has no {name}, so it is a part of a model of fastai, or a classifier: zoo "
                "reads language models, which learn.save has written"
            )
    return {str(name): array for name, array in tensors.items()}


def _kernel(number: int, tensors: Mapping[str, np.ndarray]) -> str:
    """Return the name of the recurrent kernel of a layer."""
    of_2018 = f"0.rnns.{number}.module.weight_hh_l0_raw"
    return of_2018 if of_2018 in tensors else f"0.rnns.{number}.weight_hh_l0_raw"


def _last_dropped(tensors: Mapping[str, np.ndarray], kernels: Sequence[str]) -> list[str]:
    """Return the names of the kernels with the last dropout of the training."""
    names = [f"0.rnns.{number}.module.weight_hh_l0" for number in range(len(kernels))]
    shape = lambda name: tensors[name].shape if name in tensors else None
    return [name for name, raw in zip(names, kernels, strict=True) if shape(name) == shape(raw)]


def _config(file: Path, tensors: Mapping[str, np.ndarray]) -> Config:
    num_layers = len({match[0] for name in tensors if (match := re.match(r"0\.rnns\.\d+\.", name))})
    first = tensors.get(_kernel(0, tensors))
    embedding = tensors[EMBEDDING]
    if first is None or first.ndim != 2 or embedding.ndim != 2:
        raise ValueError(
            f"{file} has no matrices {EMBEDDING} and {_kernel(0, tensors)}: zoo reads AWD-LSTMs of "
            "fastai, not its QRNNs"
        )
    return Config(
        vocab_size=embedding.shape[0],
        num_layers=num_layers,
        width=embedding.shape[1],
        cell_width=first.shape[1],
        direction="backward" if re.search("bwd|backward", file.name) else "forward",
        dropout=0.1,  # these five as in fastai's awd_lstm_lm_config
        embedding_dropout=0.02,
        input_dropout=0.25,
        hidden_dropout=0.15,
        weight_dropout=0.2,
    )


def _rows(c: Config, kernels: Sequence[str]) -> dict[str, Row]:
    """Return where each parameter is."""
    rows = {
        "trunk/token_embedding/embedding": Row(EMBEDDING, (c.vocab_size, c.width)),
        "head/bias": Row(BIAS, (c.vocab_size,)),
    }
    inputs = (c.width, *c.layer_widths)
    for number, kernel in enumerate(kernels):
        names = f"0.rnns.{number}.module.{{}}_l0"
        layer = torch_lstm.rows(names, inputs[number], c.layer_widths[number])
        layer["recurrent/kernel"] = layer["recurrent/kernel"]._replace(name=kernel)
        rows |= {f"trunk/layers_{number}/{path}": row for path, row in layer.items()}
    return rows


def _tokenizer(file: Path, vocab_size: int) -> Tokenizer | None:
    """Return the tokenizer of the vocabulary beside a file, or None if there is none.

    fastai fills a vocabulary up with copies of a word that no text has; they get names of their
    own.
    """
    files = sorted(file.parent.glob("itos*.pkl"))
    if not files:
        return None
    if len(files) > 1:
        names = " and ".join(other.name for other in files)
        raise ValueError(f"{file} has {names} beside it: leave the vocabulary that is its own")
    words = pickle.read_texts(files[0])
    if len(words) != vocab_size:
        raise ValueError(
            f"{files[0]} has {len(words):,} words, but {file} has vectors of {vocab_size:,}: put "
            "the vocabulary that the model was trained with beside it"
        )
    first = {word: number for number, word in reversed(list(enumerate(words)))}
    words = [word if first[word] == i else f"{word}{i}" for i, word in enumerate(words)]
    tokenizer = units.words(words)
    unknown = next((word for word in UNKNOWNS if word in first), None)
    if unknown is not None:
        tokenizer.model.unk_token = unknown
    return tokenizer
