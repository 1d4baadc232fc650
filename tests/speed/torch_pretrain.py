"""transformers on PyTorch, one training step of the models that zoo_pretrain steps.

As shipped: the library's models and their own losses, for ELECTRA and distillation put together by
the plain loop that people write. Tuned: only what counts meets the vocabulary. See torch_step.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from torch import nn

from tests.speed.competitor import Run, serve
from tests.speed.torch_step import shipped_loss, stepped, tensors
from tests.speed.work import DROPOUT, Work, batches

WEIGHT = 50  # of ELECTRA's discriminator
TEMPERATURE, SOFT, HARD, STATES = 2, 5, 2, 1  # of DistilBERT


class Electra(nn.Module):
    """Generator and discriminator, of which the first lends the second its embeddings."""

    def __init__(self, folder: Path):
        super().__init__()
        self.generator = transformers.ElectraForMaskedLM.from_pretrained(folder / "generator")
        self.discriminator = transformers.ElectraForPreTraining.from_pretrained(
            folder / "discriminator"
        )
        self.discriminator.electra.embeddings = self.generator.electra.embeddings


class Distillation(nn.Module):
    """A student that learns, and a teacher that does not."""

    def __init__(self, folder: Path):
        super().__init__()
        self.student = transformers.DistilBertForMaskedLM.from_pretrained(folder / "student")
        self.teacher = transformers.BertForMaskedLM.from_pretrained(folder / "teacher")
        self.teacher.requires_grad_(False)

    def train(self, mode: bool = True):
        super().train(mode)
        self.teacher.eval()
        return self


def at(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """The vectors at some positions."""
    return x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))


def cross_entropy(scores: torch.Tensor, batch: dict) -> torch.Tensor:
    """Cross-entropy of scores that are those of the targets alone."""
    return F.cross_entropy(scores.flatten(0, 1), batch["targets"].flatten())


def tuned_roberta_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """Only the predicted positions meet the head."""
    hidden = model.roberta(batch["tokens"]).last_hidden_state
    return cross_entropy(model.lm_head(at(hidden, batch["positions"])), batch)


def shipped_albert_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """Both losses of the library, which adds them up."""
    return model(
        input_ids=batch["tokens"],
        token_type_ids=batch["segments"],
        labels=batch["labels"],
        sentence_order_label=batch["order"],
    ).loss


def tuned_albert_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """Only the predicted positions meet the head."""
    found = model.albert(batch["tokens"], token_type_ids=batch["segments"])
    scores = model.predictions(at(found.last_hidden_state, batch["positions"]))
    order = F.cross_entropy(model.sop_classifier(found.pooler_output), batch["order"])
    return cross_entropy(scores, batch) + order


def filled(scores: torch.Tensor, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """The text with words drawn from the guesses, and which are not the original.

    The largest score with Gumbel noise is such a draw. Words that the batch has are not drawn.
    """
    noise = -torch.empty_like(scores, dtype=torch.float32).exponential_().log()
    drawn = batch.get("drawn", (scores.detach() + noise).argmax(-1))
    original = batch["tokens"].scatter(1, batch["positions"], batch["targets"])
    text = original.scatter(1, batch["positions"], drawn)
    return text, (text != original).long()


def shipped_electra_loss(model: Electra, batch: dict) -> torch.Tensor:
    """The losses of both networks."""
    guessed = model.generator(input_ids=batch["tokens"], labels=batch["labels"])
    text, replaced = filled(at(guessed.logits, batch["positions"]), batch)
    return guessed.loss + WEIGHT * model.discriminator(input_ids=text, labels=replaced).loss


def tuned_electra_loss(model: Electra, batch: dict) -> torch.Tensor:
    """Only the predicted positions meet the generator's head."""
    generator = model.generator
    hidden = at(generator.electra(batch["tokens"]).last_hidden_state, batch["positions"])
    scores = generator.generator_lm_head(generator.generator_predictions(hidden))
    text, replaced = filled(scores, batch)
    logits = model.discriminator(input_ids=text).logits
    found = F.binary_cross_entropy_with_logits(logits, replaced.to(logits.dtype))
    return cross_entropy(scores, batch) + WEIGHT * found


def shipped_distilbert_loss(model: Distillation, batch: dict) -> torch.Tensor:
    """The three losses as the authors' own loop writes them, over all tokens."""
    with torch.no_grad():
        teacher = model.teacher(input_ids=batch["tokens"], output_hidden_states=True)
    student = model.student(
        input_ids=batch["tokens"], labels=batch["labels"], output_hidden_states=True
    )
    soft = nn.KLDivLoss(reduction="batchmean")(
        F.log_softmax(student.logits.flatten(0, 1) / TEMPERATURE, dim=-1),
        F.softmax(teacher.logits.flatten(0, 1) / TEMPERATURE, dim=-1),
    )
    ours, theirs = (x.hidden_states[-1].flatten(0, 1) for x in (student, teacher))
    states = nn.CosineEmbeddingLoss()(ours, theirs, ours.new_ones(len(ours)))
    return SOFT * TEMPERATURE**2 * soft + HARD * student.loss + STATES * states


def tuned_distilbert_loss(model: Distillation, batch: dict) -> torch.Tensor:
    """Only the predicted positions are held against their words; no states but the last."""
    with torch.no_grad():
        theirs = model.teacher.bert(batch["tokens"]).last_hidden_state
        wanted = F.log_softmax(model.teacher.cls(theirs) / TEMPERATURE, dim=-1)
    student = model.student
    ours = student.distilbert(batch["tokens"]).last_hidden_state
    hidden = student.vocab_layer_norm(student.activation(student.vocab_transform(ours)))
    scores = student.vocab_projector(hidden)
    soft = F.kl_div(
        F.log_softmax(scores / TEMPERATURE, dim=-1).flatten(0, 1),
        wanted.flatten(0, 1),
        reduction="batchmean",
        log_target=True,
    )
    hard = cross_entropy(at(scores, batch["positions"]), batch)
    states = 1 - F.cosine_similarity(ours, theirs, dim=-1).mean()
    return SOFT * TEMPERATURE**2 * soft + HARD * hard + STATES * states


def shipped_t5_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    return model(input_ids=batch["tokens"], labels=batch["targets"]).loss


def tuned_t5_loss(model: nn.Module, batch: dict) -> torch.Tensor:
    """All targets are predicted, so only the cache of keys, which nobody reads, can go."""
    return model(input_ids=batch["tokens"], labels=batch["targets"], use_cache=False).loss


class LanguageModel(nn.Module):
    """What PyTorch's own example has: an LSTM between two tables, and dropout on what goes up.

    The state goes on from batch to batch. Time is the first axis, as nn.LSTM likes it.
    """

    def __init__(self, folder: Path):
        super().__init__()
        weights = load_file(folder / "model.safetensors")
        (vocab_size, width), layers = weights["encoder.weight"].shape, len(weights) // 4
        self.encoder = nn.Embedding(vocab_size, width)
        self.rnn = nn.LSTM(width, width, layers, dropout=DROPOUT)
        self.decoder = nn.Linear(width, vocab_size)
        self.dropout = nn.Dropout(DROPOUT)
        self.states = None
        self.load_state_dict(weights)

    def forward(self, tokens_LB: torch.Tensor, states):
        x_LBD, states = self.rnn(self.dropout(self.encoder(tokens_LB)), states)
        return self.decoder(self.dropout(x_LBD)), states


def language_loss(model: LanguageModel, batch: dict) -> torch.Tensor:
    """Every word counts; the gradient ends where the window begins."""
    scores, states = model(batch["tokens"].T, model.states)
    if model.training:
        model.states = tuple(x.detach() for x in states)
    return F.cross_entropy(scores.flatten(0, 1), batch["targets"].T.flatten())


# How a model is made of its folder, and its loss as shipped and tuned.
MODELS = {
    "roberta": (
        transformers.RobertaForMaskedLM.from_pretrained,
        shipped_loss,
        tuned_roberta_loss,
    ),
    "albert": (
        transformers.AlbertForPreTraining.from_pretrained,
        shipped_albert_loss,
        tuned_albert_loss,
    ),
    "electra": (Electra, shipped_electra_loss, tuned_electra_loss),
    "distilbert": (Distillation, shipped_distilbert_loss, tuned_distilbert_loss),
    "t5": (
        transformers.T5ForConditionalGeneration.from_pretrained,
        shipped_t5_loss,
        tuned_t5_loss,
    ),
    "t5_v1_1": (
        transformers.T5ForConditionalGeneration.from_pretrained,
        shipped_t5_loss,
        tuned_t5_loss,
    ),
    "transformer": (transformers.MarianMTModel.from_pretrained, shipped_t5_loss, tuned_t5_loss),
    "rnn": (LanguageModel, language_loss, language_loss),
}


def build(work: Work, folder: Path, variant: str) -> tuple[dict, Run]:
    torch.manual_seed(0)
    make, shipped, tuned = MODELS[work.model]
    data = [tensors(batch) for batch in batches(work)]
    first = data[0]
    if work.model == "electra":
        # Draws differ, so before training the hidden words as they stand are the guesses.
        first = first | {"drawn": first["tokens"].gather(1, first["positions"])}
    loss_of = tuned if "tuned" in variant else shipped
    return stepped(work, variant, make(folder), loss_of, data, first)


if __name__ == "__main__":
    serve(build)
