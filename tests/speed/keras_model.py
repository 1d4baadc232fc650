"""Models of Keras and KerasHub with the weights of a folder."""

import json
from pathlib import Path

import keras
import keras_hub
from keras_hub.src.utils.transformers import convert_bert, convert_gpt2
from safetensors.numpy import load_file

from tests.speed.work import DROPOUT, Work


class Loader:
    """Hands tensors to KerasHub's own weight tables, which ask by name."""

    def __init__(self, folder: Path):
        self.tensors = load_file(folder / "model.safetensors")

    def get_tensor(self, name: str):
        for prefix in ("transformer.", "bert.", ""):
            if prefix + name in self.tensors:
                return self.tensors[prefix + name]
        raise KeyError(name)

    def port_weight(self, keras_variable, hf_weight_key, hook_fn=None):
        if hf_weight_key.startswith("pooler."):
            return  # a masked language model has none
        array = self.get_tensor(hf_weight_key)
        keras_variable.assign(hook_fn(array, list(keras_variable.shape)) if hook_fn else array)


def sizes(work: Work) -> dict:
    return {
        "vocabulary_size": work.vocab_size,
        "num_layers": work.num_layers,
        "num_heads": work.num_heads,
        "hidden_dim": work.width,
        "intermediate_dim": work.mlp_width,
        "max_sequence_length": work.max_length,
        "dropout": 0.1,
    }


def gpt2(work: Work, folder: Path) -> keras.Model:
    backbone = keras_hub.models.GPT2Backbone(**sizes(work))
    config = json.loads((folder / "config.json").read_text())
    convert_gpt2.convert_weights(backbone, Loader(folder), config)
    return keras_hub.models.GPT2CausalLM(backbone)


def lstms(work: Work, folder: Path, **options) -> list[keras.layers.LSTM]:
    """The layers of a recurrent model, built; the two biases that others have are added up."""
    tensors, layers = load_file(folder / "model.safetensors"), []
    for number in range(work.num_layers):
        layer = keras.layers.LSTM(work.width, return_sequences=True, **options)
        layer.build((work.rows, work.max_length, work.width))
        of = lambda name, at=number: tensors[f"rnn.{name}_l{at}"].T
        layer.set_weights([of("weight_ih"), of("weight_hh"), of("bias_ih") + of("bias_hh")])
        layers.append(layer)
    return layers


def second_biases(work: Work) -> int:
    """How many parameters fewer Keras has, which adds up the two biases of a gate."""
    return work.num_layers * 4 * work.width


def rnn(work: Work, folder: Path) -> keras.Model:
    """A recurrent language model whose state goes on from batch to batch."""
    tensors = load_file(folder / "model.safetensors")
    words = keras.Input(batch_shape=(work.rows, work.max_length), dtype="int32")
    embedding = keras.layers.Embedding(work.vocab_size, work.width)
    x = embedding(words)
    for layer in lstms(work, folder, stateful=True):
        x = layer(keras.layers.Dropout(DROPOUT)(x))
    head = keras.layers.Dense(work.vocab_size)
    model = keras.Model(words, head(keras.layers.Dropout(DROPOUT)(x)))
    embedding.set_weights([tensors["encoder.weight"]])
    head.set_weights([tensors["decoder.weight"].T, tensors["decoder.bias"]])
    return model


def bert(work: Work, folder: Path) -> keras.Model:
    """The encoder and the masked-word head, without the pooler that nothing reads."""
    backbone, loader = keras_hub.models.BertBackbone(**sizes(work)), Loader(folder)
    convert_bert.convert_weights(backbone, loader, {})
    head = keras_hub.models.BertMaskedLM(backbone).masked_lm_head
    positions = keras.Input((None,), dtype="int32", name="mask_positions")
    model = keras.Model(
        {**backbone.input, "mask_positions": positions},
        head(backbone.output["sequence_output"], positions),
    )
    tensor = lambda name: loader.get_tensor(f"cls.predictions.{name}")
    head._intermediate_dense.kernel.assign(tensor("transform.dense.weight").T)
    head._intermediate_dense.bias.assign(tensor("transform.dense.bias"))
    head._intermediate_layer_norm.gamma.assign(tensor("transform.LayerNorm.weight"))
    head._intermediate_layer_norm.beta.assign(tensor("transform.LayerNorm.bias"))
    head._intermediate_layer_norm.epsilon = 1e-12  # as BERT; the layer's own default is 1e-5
    head._bias.assign(tensor("bias"))
    return model
