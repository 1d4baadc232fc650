r"""ULMFiT: a language model, fine-tuned on the text of a task before its classifier is trained.

Howard and Ruder 2018, https://arxiv.org/abs/1801.06146: three commands, each of which resumes.

    zoo pretrain awd-lstm-wikitext-103 --text wiki.txt --out runs/lm
    zoo pretrain ulmfit --init runs/lm --add-words 2 --text task.txt --out runs/task-lm
    zoo finetune runs/task-lm --task classification --train train.tsv --unfreeze gradual \
      --schedule slanted --layer-decay 0.385 --learning-rate 1e-2 --length 1400 --config \
      input_dropout=0.4 weight_dropout=0.5 embedding_dropout=0.05 hidden_dropout=0.3 \
      --out runs/classifier

With `--config direction=backward` in the first command, all three read backward, and `zoo evaluate
runs/classifier --data test.tsv --average-with runs/backward-classifier` predicts with both.

The second command is this recipe (section 3.2): a slanted triangular learning rate of at most 4e-3,
which falls by 2.6 from each layer to the one below, and 15 epochs. Adam's betas, the batch and the
clipping are those of the released code, and so is the place of the embeddings: above all layers,
because they are the softmax too. The dropouts are those of the folder; `--config` changes them.

In the third command, the length is that of the text that the classifier pools, and the dropouts are
those of the released code. Departures: Adam's betas are 0.9 and 0.999, the weight decay is 0.01.
"""

from functools import partial

import optax

from train.optimization import optimizers, schedules
from train.optimization.layer_groups import discriminative
from train.optimization.weight_decay import Mask
from train.recipes.awd_lstm import AWDLSTMRecipe
from train.recipes.recipe import RecipeFactory
from zoo.models import awd_lstm
from zoo.tokenizers.units import END

FACTOR = 2.6  # between the learning rates of adjacent layers
GROUPS = (r"trunk/layers_(\d+)/", "")


def optimizer(schedule: optax.Schedule, *, decay_mask: Mask) -> optax.GradientTransformation:
    """Return Adam with a learning rate for each layer."""
    adam = partial(optimizers.adamw, b1=0.8, b2=0.99, decay=1e-7, clip=0.3)
    return discriminative(adam(schedule, decay_mask=decay_mask), GROUPS, FACTOR)


def ulmfit() -> AWDLSTMRecipe:
    """Return `zoo pretrain ulmfit --init FOLDER`: the fine-tuning of the language model."""
    return AWDLSTMRecipe(
        name="ulmfit",
        architecture="awd_lstm",
        config=awd_lstm.SIZES["awd-lstm-wikitext-103"],
        schedule=lambda steps: schedules.slanted_triangular(4e-3, steps),
        optimizer=optimizer,
        undecayed=(),
        end_of_document=END,
        steps=1,  # of an epoch, until the text is known
        epochs=15,
        batch=64,
        length=70,
    )


RECIPES: dict[str, RecipeFactory] = {"ulmfit": ulmfit}
