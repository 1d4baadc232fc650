"""Small corpora for tests."""

import functools

import numpy as np

from train.data import train_tokenizer
from train.data.corpus import prepare
from train.data.corpus.corpus import Corpus
from train.data.sources import builtin, text

KINDS = ("byte_level_bpe", "wordpiece", "unigram")


@functools.cache
def documents() -> tuple[str, ...]:
    return tuple(document[:2000] for document in builtin.documents()[:120])


@functools.cache
def tokenizer(kind: str):
    return getattr(train_tokenizer, kind)(documents(), 700)


def prepared(folder, kind: str = "byte_level_bpe", end_of_document=None, texts=None):
    source = text.strings(documents() if texts is None else texts)
    return prepare.prepare(source, tokenizer(kind), folder, end_of_document)


def numbered(num_documents=60, longest=40, sentence=12, seed=0, cls=Corpus) -> Corpus:
    """Return a corpus whose token at position i is i + 10, so that a token encodes its position.

    Documents have 1 to `longest` sentences, sentences 1 to `sentence` tokens, words a few tokens.
    """
    random = np.random.default_rng(seed)
    counts = random.integers(1, longest + 1, num_documents)
    sentences = np.append(0, np.cumsum(random.integers(1, sentence + 1, counts.sum())))
    documents = sentences[np.append(0, np.cumsum(counts))]
    tokens = np.arange(sentences[-1], dtype=np.uint32) + 10
    words = random.random(len(tokens)) < 0.6
    words[sentences[:-1]] = True
    return cls(
        tokens=tokens,
        words=np.packbits(words, bitorder="little"),
        sentences=sentences,
        documents=documents,
        bytes=4 * sentences,
        vocab_size=len(tokens) + 10,
        fingerprint="numbered",
    )
