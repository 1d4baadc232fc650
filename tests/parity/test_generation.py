"""Generation against transformers: greedy tokens, beams and their scores."""

import numpy as np
import pytest

import zoo
from tests.parity.table import ROWS, V
from tests.parity.test_parity import build
from tests.wide import relative
from zoo.inference import beam_search, generate

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TOLERANCE, LENGTH, LONGEST = 1e-5, 15, 20
T5, MARIAN = "T5ForConditionalGeneration", "MarianMTModel"
WRITERS = ("GPT2LMHeadModel", T5, f"{T5}-v1_1", f"{MARIAN}-swish", f"{MARIAN}-relu")
SETTINGS = [(penalty, early) for penalty in (0.0, 0.6, 2.0) for early in (False, True)]


@pytest.fixture(scope="module", params=WRITERS)
def writer(request, tmp_path_factory):
    """Theirs, ours, prompts of different lengths, and them as a padded batch."""
    row, folder = ROWS[request.param], tmp_path_factory.mktemp("published")
    theirs = build(row)
    continues = row.published == "GPT2LMHeadModel"
    if continues:  # an end that is likely everywhere, so that a search with a penalty may stop
        with torch.no_grad():
            bias_D = theirs.transformer.ln_f.bias
            theirs.transformer.wte.weight[1] = 4 * bias_D / bias_D.norm()
    theirs.save_pretrained(folder)
    model, params, _ = zoo.load(folder)
    draw = np.random.default_rng(1)
    longest = 8 if continues else LONGEST
    prompts = [draw.integers(2, V - 1, n).tolist() for n in draw.integers(1, longest, 8)]
    ids, real = np.zeros((2, len(prompts), longest), int)
    for i, prompt in enumerate(prompts):
        place = slice(longest - len(prompt), None) if continues else slice(len(prompt))
        ids[i, place], real[i, place] = prompt, 1
    padded = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real)}
    opened = longest if continues else 1
    return row, theirs, model, params, prompts, padded, opened


def written(sequence, end, opened):
    """The tokens of an output of transformers, up to the end."""
    tokens = sequence.tolist()[opened:]
    return tokens[: tokens.index(end)] if end in tokens else tokens


def asked(row, theirs, padded, end, **options):
    if row.published == MARIAN:  # its start never comes, and the others share its probability
        options["bad_words_ids"] = [[theirs.config.decoder_start_token_id]]
        options["renormalize_logits"] = True
    return theirs.generate(
        **padded,
        max_new_tokens=LENGTH,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=row.padding,
        **options,
    )


def test_transformers_writes_the_same(writer):
    row, theirs, model, params, prompts, padded, opened = writer
    settings = {"max_new_tokens": LENGTH, "temperature": 0.0}
    free = generate.generate_ids(model, params, prompts, **settings)
    end = free[0][5]  # a token that comes
    found = generate.generate_ids(model, params, prompts, end=end, **settings)
    assert found == [written(x, end, opened) for x in asked(row, theirs, padded, end)]
    assert len({len(tokens) for tokens in found}) > 1


def test_transformers_finds_the_same_beams(writer):
    row, theirs, model, params, prompts, padded, opened = writer
    end = 1
    if row.published != "GPT2LMHeadModel":
        end = beam_search.beam_search_ids(model, params, prompts, max_new_tokens=LENGTH)[0][0][0][5]
    for penalty, early in SETTINGS:
        settings = {"length_penalty": penalty, "early": early, "best": 3}
        settings |= {"max_new_tokens": LENGTH, "end": end}
        found = beam_search.beam_search_ids(model, params, prompts, **settings)
        whole = asked(
            row,
            theirs,
            padded,
            end,
            num_beams=4,
            num_return_sequences=3,
            length_penalty=penalty,
            early_stopping=early,
            output_scores=True,
            return_dict_in_generate=True,
        )
        texts = [text for beams in found for text, _ in beams]
        assert texts == [written(x, end, opened) for x in whole.sequences], (penalty, early)
        assert len({len(text) for text in texts}) > 1
        scores = [score for beams in found for _, score in beams]
        assert relative(scores, whole.sequences_scores.numpy()) < TOLERANCE, (penalty, early)
