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
MODELS = ("GPT2LMHeadModel", T5, f"{T5}-v1_1", f"{MARIAN}-swish", f"{MARIAN}-relu")
SETTINGS = [(penalty, early) for penalty in (0.0, 0.6, 2.0) for early in (False, True)]


@pytest.fixture(scope="module", params=MODELS)
def models(request, tmp_path_factory):
    """Return both models, prompts of different lengths, and the prompts as a padded batch."""
    row, folder = ROWS[request.param], tmp_path_factory.mktemp("published")
    theirs = build(row)
    continues = row.published == "GPT2LMHeadModel"
    if continues:  # an end that is always likely, so that a search with a length penalty may stop
        with torch.no_grad():
            bias_D = theirs.transformer.ln_f.bias
            theirs.transformer.wte.weight[1] = 4 * bias_D / bias_D.norm()
    theirs.save_pretrained(folder)
    model, params, _ = zoo.load(folder)
    random = np.random.default_rng(1)
    longest = 8 if continues else LONGEST
    prompts = [random.integers(2, V - 1, n).tolist() for n in random.integers(1, longest, 8)]
    ids, real = np.zeros((2, len(prompts), longest), int)
    for i, prompt in enumerate(prompts):
        positions = slice(longest - len(prompt), None) if continues else slice(len(prompt))
        ids[i, positions], real[i, positions] = prompt, 1
    padded = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(real)}
    prompt_length = longest if continues else 1
    return row, theirs, model, params, prompts, padded, prompt_length


def new_tokens(sequence, end, prompt_length):
    """Return the new tokens of an output of transformers, up to the end."""
    tokens = sequence.tolist()[prompt_length:]
    return tokens[: tokens.index(end)] if end in tokens else tokens


def their_generate(row, theirs, padded, end, **options):
    if (
        row.published == MARIAN
    ):  # its start is never generated, and its probability is redistributed
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


def test_greedy_tokens_equal(models):
    row, theirs, model, params, prompts, padded, prompt_length = models
    settings = {"max_new_tokens": LENGTH, "temperature": 0.0}
    without_end = generate.generate_ids(model, params, prompts, **settings)
    end = without_end[0][5]  # a token that is generated
    outputs = generate.generate_ids(model, params, prompts, end=end, **settings)
    assert outputs == [
        new_tokens(x, end, prompt_length) for x in their_generate(row, theirs, padded, end)
    ]
    assert len({len(tokens) for tokens in outputs}) > 1


def test_beams_and_scores_equal(models):
    row, theirs, model, params, prompts, padded, prompt_length = models
    end = 1
    if row.published != "GPT2LMHeadModel":
        end = beam_search.beam_search_ids(model, params, prompts, max_new_tokens=LENGTH)[0][0][0][5]
    for penalty, early in SETTINGS:
        settings = {"length_penalty": penalty, "early": early, "best": 3}
        settings |= {"max_new_tokens": LENGTH, "end": end}
        beams_of_rows = beam_search.beam_search_ids(model, params, prompts, **settings)
        their_output = their_generate(
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
        texts = [text for beams in beams_of_rows for text, _ in beams]
        assert texts == [new_tokens(x, end, prompt_length) for x in their_output.sequences], (
            penalty,
            early,
        )
        assert len({len(text) for text in texts}) > 1
        scores = [score for beams in beams_of_rows for _, score in beams]
        assert relative(scores, their_output.sequences_scores.numpy()) < TOLERANCE, (penalty, early)


def their_constrained(models, end, **options):
    """Return the tokens of transformers for each prompt alone: its n-grams count padding."""
    row, theirs, _, _, prompts, _, _ = models
    texts = []
    for prompt in prompts[:3]:
        inputs = {"input_ids": torch.tensor([prompt])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        length = len(prompt) if row.published == "GPT2LMHeadModel" else 1
        options |= {"max_new_tokens": LENGTH, "eos_token_id": end, "pad_token_id": row.padding}
        texts.append(new_tokens(theirs.generate(**inputs, **options)[0], end, length))
    return texts


def test_tokens_and_beams_under_constraints_equal(models):
    row, theirs, model, params, prompts, _, _ = models
    if row.name in (f"{T5}-v1_1", f"{MARIAN}-relu"):
        pytest.skip("its decoding is that of its sibling")
    settings = {"max_new_tokens": LENGTH, "temperature": 0.0}
    free = generate.generate_ids(model, params, prompts[:3], **settings)
    end, settings["end"] = free[0][5], free[0][5]
    rules = {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 9}
    rules |= {"suppress_tokens": free[0][3:4]}
    bad_words = [free[1][:1], free[1][1:3], free[2][:3]]
    outputs = generate.generate_ids(
        model, params, prompts[:3], bad_words_ids=bad_words, **settings, **rules
    )
    assert outputs != free
    if row.published == MARIAN:  # as in `their_generate`
        bad_words.append([theirs.config.decoder_start_token_id])
    assert outputs == their_constrained(models, end, bad_words_ids=bad_words, **rules)
    if row.published != MARIAN:  # its probabilities are normalized again
        beams = beam_search.beam_search_ids(
            model,
            params,
            prompts[:3],
            max_new_tokens=LENGTH,
            end=end,
            bad_words_ids=bad_words,
            **rules,
        )
        expected = their_constrained(models, end, bad_words_ids=bad_words, num_beams=4, **rules)
        assert [texts[0][0] for texts in beams] == expected
