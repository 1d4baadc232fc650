"""Generation equals that of transformers: greedy tokens, beams and their scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from tests.wide import relative
from zoo.formats import huggingface
from zoo.inference import beam_search, generate
from zoo.models import gpt2

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

ROW = tiny.TABLE["gpt2"]
PARAMS = tiny.wide(ROW.model)
PROMPTS = [[5, 9, 2], [7], [3, 3, 8, 1, 60, 4]]


def test_transformers_generates_the_same(tmp_path):
    huggingface.write(tmp_path, gpt2, ROW.config, PARAMS)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    ours = generate.generate(ROW.model, PARAMS, PROMPTS, length=9, temperature=0.0)
    for prompt, found in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        whole = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=9,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert whole[0, len(prompt) :].tolist() == found


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_transformers_finds_the_same_beams(tmp_path, penalty, early):
    end, draw = 1, np.random.default_rng(1)
    prompts = [draw.integers(2, tiny.V, n).tolist() for n in draw.integers(1, 8, 8)]
    # An end that is likely everywhere, so that a search with a penalty stops before it need.
    params = jax.tree.map(lambda x: x, PARAMS)
    bias_D = params["trunk"]["norm"]["bias"]
    table = params["trunk"]["token_embedding"]
    table["embedding"] = table["embedding"].at[end].set(4 * bias_D / jnp.linalg.norm(bias_D))
    huggingface.write(tmp_path, gpt2, ROW.config, params)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    ids, real = np.zeros((2, 8, 7), int)
    for row, prompt in enumerate(prompts):
        ids[row, 7 - len(prompt) :], real[row, 7 - len(prompt) :] = prompt, 1
    whole = theirs.generate(
        torch.from_numpy(ids),
        attention_mask=torch.from_numpy(real),
        max_new_tokens=15,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=0,
        num_beams=4,
        num_return_sequences=3,
        length_penalty=penalty,
        early_stopping=early,
        output_scores=True,
        return_dict_in_generate=True,
    )
    settings = {"length": 15, "end": end, "penalty": penalty, "early": early, "best": 3}
    found = beam_search.beam_search(ROW.model, params, prompts, **settings)
    texts = [text for row in found for text, _ in row]
    expected = [row[7:].tolist() for row in whole.sequences]
    assert texts == [row[: row.index(end)] if end in row else row for row in expected]
    assert len({len(text) for text in texts}) > 1
    scores = [score for row in found for _, score in row]
    assert relative(scores, whole.sequences_scores.numpy()) < 1e-5
