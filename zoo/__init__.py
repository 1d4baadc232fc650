"""Zoo: language models from the n-gram to ELECTRA, each in one readable file, on JAX and Flax.

    bert = zoo.load("google-bert/bert-base-uncased")    # or a folder, ours or Hugging Face's
    zoo.fill_mask(bert, "The capital of France is [MASK].")

`load` returns a model, its parameters and its tokenizer as one object, which is the first argument
of the functions for inference.
"""

from zoo.checkpoints.load import Loaded, export, load, save
from zoo.inference.answer import answer
from zoo.inference.attention import attention, attention_rollout
from zoo.inference.beam_search import beam_search
from zoo.inference.choose import choose
from zoo.inference.classify import classify
from zoo.inference.detect_replaced import detect_replaced
from zoo.inference.embed import embed, embed_words
from zoo.inference.fill_mask import fill_mask
from zoo.inference.generate import generate
from zoo.inference.generate_sound import generate_sound
from zoo.inference.in_context import Shot, prompt
from zoo.inference.neighbors import WordIndex, analogy, neighbors, similarity, word_index
from zoo.inference.one_hot import bag_of_words, one_hot
from zoo.inference.score import Score, next_tokens, score
from zoo.inference.stream import stream
from zoo.inference.tag import entities, tag
from zoo.inference.translate import translate
from zoo.registry import architectures, create, sizes
from zoo.version import __version__
from zoo.vocabulary import extend_vocabulary

__all__ = [
    "Loaded",
    "Score",
    "Shot",
    "WordIndex",
    "__version__",
    "analogy",
    "answer",
    "architectures",
    "attention",
    "attention_rollout",
    "bag_of_words",
    "beam_search",
    "choose",
    "classify",
    "create",
    "detect_replaced",
    "embed",
    "embed_words",
    "entities",
    "export",
    "extend_vocabulary",
    "fill_mask",
    "generate",
    "generate_sound",
    "load",
    "neighbors",
    "next_tokens",
    "one_hot",
    "prompt",
    "save",
    "score",
    "similarity",
    "sizes",
    "stream",
    "tag",
    "translate",
    "word_index",
]


def __dir__() -> list[str]:
    return __all__
