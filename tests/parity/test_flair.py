"""Flair against torch.nn.LSTM, wired by hand as in the paper and the released code."""

import re

import jax
import numpy as np
import pytest

from tests.wide import relative, widen
from zoo.models import flair
from zoo.params import abstract, flatten, unflatten
from zoo.tokenizers import units

torch = pytest.importorskip("torch")

LETTERS = ["<unk>", "</s>", "\n", " ", *"abcdefghijklmnopqrstuvwxyz.,"]
TOKENIZER = units.characters(LETTERS)
CONFIG = flair.Config(vocab_size=len(LETTERS), width=20, embed_width=7)
MODEL = flair.FlairLM(CONFIG)
SENTENCES = ["a contextual string , é .", "zoo", "the cat sat on the mat ."]
TOLERANCE = 1e-5


class CharacterLM(torch.nn.Module):
    """A language model of one direction, with the names of the released models."""

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Embedding(len(LETTERS), CONFIG.embed_width)
        self.rnn = torch.nn.LSTM(CONFIG.embed_width, CONFIG.width // 2)
        self.decoder = torch.nn.Linear(CONFIG.width // 2, len(LETTERS))

    def forward(self, text):
        """Return the states after each character of a text, and the logits of the next ones."""
        ids = [LETTERS.index(letter) if letter in LETTERS else 0 for letter in text]
        states = self.rnn(self.encoder(torch.tensor(ids))[:, None])[0][:, 0]
        return states.detach().numpy(), self.decoder(states).detach().numpy()


def networks():
    both = [CharacterLM(), CharacterLM()]
    for seed, network in enumerate(both):
        widen(network, seed)
    return both


def converted(forward, backward) -> dict:
    """Return the parameters of both as ours."""
    names = {
        "token_embedding/embedding": "encoder.weight",
        "input/kernel": "rnn.weight_ih_l0",
        "input/bias": "rnn.bias_ih_l0",
        "recurrent/kernel": "rnn.weight_hh_l0",
        "recurrent/bias": "rnn.bias_hh_l0",
        "head/embedding": "decoder.weight",
        "head/bias": "decoder.bias",
    }
    params = {}
    for path, leaf in flatten(abstract(MODEL)).items():
        state = (forward if "forward" in path else backward).state_dict()
        name = next(theirs for ours, theirs in names.items() if path.endswith(ours))
        array = state[name].numpy()
        if leaf.ndim == 3:  # their gates stand one below the other
            array = array.reshape(leaf.shape[1], leaf.shape[2], leaf.shape[0]).transpose(2, 0, 1)
        params[path] = array.reshape(leaf.shape)
    return unflatten(params)


def expected_vectors(forward, backward, sentence: str) -> np.ndarray:
    """Return the vectors of the words of a sentence, by the offsets of the released code."""
    left, _ = forward("\n" + sentence + " ")
    right, _ = backward("\n" + sentence[::-1] + " ")
    after, before, vectors = 1, len(sentence) + 1, []
    for word in sentence.split(" "):
        after += len(word)
        vectors.append(np.concatenate([left[after], right[before]]))
        after, before = after + 1, before - 1 - len(word)
    return np.stack(vectors)


def test_the_vectors_of_words_stand_at_the_blanks_behind_them():
    both = networks()
    params = converted(*both)
    spelled = [MODEL.spell(TOKENIZER, sentence.split(" ")) for sentence in SENTENCES]
    longest = max(len(tokens) for tokens, _ in spelled) + 3
    tokens_BL = np.full((len(spelled), longest), 3, np.int32)  # padded with blanks, as theirs
    document_ids_BL = np.zeros(tokens_BL.shape, np.int32)
    for number, (tokens, _) in enumerate(spelled):
        tokens_BL[number, : len(tokens)], document_ids_BL[number, : len(tokens)] = tokens, 1
    trunk = {"params": params["trunk"]}
    apply = jax.jit(flair.Flair(CONFIG).apply)
    x_BLD = np.asarray(apply(trunk, tokens_BL, document_ids_BL))
    for number, (_, positions) in enumerate(spelled):
        expected = expected_vectors(*both, SENTENCES[number])
        assert relative(x_BLD[number, positions], expected) < TOLERANCE
    packed = np.concatenate([tokens for tokens, _ in spelled])[None]
    ids = np.repeat(np.arange(1, 4), [len(tokens) for tokens, _ in spelled])[None]
    x_LD, offset = np.asarray(apply(trunk, packed, ids))[0], 0
    for number, (tokens, positions) in enumerate(spelled):
        own = x_LD[offset + np.array(positions)]
        assert relative(own, x_BLD[number, positions]) < TOLERANCE
        offset += len(tokens)


def test_each_direction_predicts_its_next_character():
    both, sentence = networks(), SENTENCES[2]
    text = "\n" + sentence + " "
    tokens_BL = np.array([[LETTERS.index(letter) for letter in text]])
    following, previous = MODEL.apply({"params": converted(*both)}, tokens_BL)
    assert relative(following[0], both[0](text)[1]) < TOLERANCE
    assert relative(previous[0][::-1], both[1](text[::-1])[1]) < TOLERANCE


def test_the_numbers_of_parameters_are_twice_those_of_a_released_model():
    for name, count in (("flair-2048", 18_203_775), ("flair-1024", 4_921_471)):
        leaves = flatten(abstract(flair.Model(flair.SIZES[name])))
        forward = sum(x.size for path, x in leaves.items() if re.search("forward", path))
        assert forward == count
        assert sum(x.size for x in leaves.values()) == 2 * count
