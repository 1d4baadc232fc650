"""XLNet: permutation language modelling with segment recurrence.

Yang et al. 2019, appendix A.4, for the large size: peak learning rate 4e-4 after 40,000 steps,
linear to zero over 500,000, batch 8192, length 512, weight decay 0.01, epsilon 1e-6, no bias
correction, memory 384, a sixth of the tokens predicted. For the base size, the paper states only
that it is trained like BERT; here it has the same recipe with BERT's batch size.
"""

from collections.abc import Iterable
from functools import partial

from tokenizers import Tokenizer

from train.data import train_tokenizer
from train.data.batches.permutation_rows import PermutationRows
from train.objectives.permutation import Permutation
from train.optimization import optimizers, schedules
from train.optimization.weight_decay import BIASES_AND_NORMS
from train.recipes.recipe import Recipe, RecipeFactory
from zoo.models import xlnet
from zoo.tokenizers import AnyTokenizer, token_id


class XLNetRecipe(Recipe):
    """Recipes that reuse half of every row; at length 512, memory 384 and 85 predictions."""

    def train_tokenizer(self, texts: Iterable[str]) -> Tokenizer:
        return train_tokenizer.unigram(texts, self.config.vocab_size)

    def objective(self, tokenizer: AnyTokenizer) -> Permutation:
        return Permutation(
            sep=token_id(tokenizer, "<sep>"),
            cls=token_id(tokenizer, "<cls>"),
            num_predictions=self.length // 6,
            reuse=self.length // 2,
            memory=self.length * 3 // 4,
            perm_size=self.length // 2,
        )

    def batches(self, tokenizer: AnyTokenizer) -> PermutationRows:
        return PermutationRows(
            length=self.length,
            reuse=self.length // 2,
            cls=token_id(tokenizer, "<cls>"),
            sep=token_id(tokenizer, "<sep>"),
        )


def xlnet_tiny() -> Recipe:
    """Return `zoo pretrain xlnet-tiny`: four layers on the built-in corpus, 7 minutes on two cores.

    Held-out perplexity is about 550 (unigram model: 823).
    """
    return _recipe(
        "xlnet-tiny",
        schedule=lambda steps: schedules.linear(3e-4, min(100, steps // 10), steps),
        steps=900,
        batch=8,
        length=128,
        evaluate_every=300,
        save_every=300,
    )


def published(name: str, batch: int) -> Recipe:
    """Return a published size with the paper's recipe."""
    return _recipe(
        name,
        schedule=lambda steps: schedules.linear(4e-4, min(40_000, steps // 10), steps),
        steps=500_000,
        batch=batch,
        length=512,
        dtype="bfloat16",
    )


def _recipe(name: str, **fields) -> XLNetRecipe:
    return XLNetRecipe(
        name=name,
        architecture="xlnet",
        config=xlnet.SIZES[name],
        end_of_document="<eod>",
        optimizer=partial(optimizers.adamw_bert, eps=1e-6, decay=0.01, clip=1.0),
        undecayed=(*BIASES_AND_NORMS, r"^head_bias$"),
        **fields,
    )


RECIPES: dict[str, RecipeFactory] = {
    "xlnet-tiny": xlnet_tiny,
    "xlnet-base-cased": partial(published, "xlnet-base-cased", 256),
    "xlnet-large-cased": partial(published, "xlnet-large-cased", 8192),
}
