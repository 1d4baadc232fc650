"""A model of whole words that gets the words of another text before it is trained on it.

Howard and Ruder 2018 keep the rows of the words that both texts have; the others start from the
mean of all rows.
"""

from pathlib import Path

from train.data import vocabulary
from train.data.sources.source import Source
from zoo.checkpoints.load import load, save
from zoo.inference.prompts import require_tokenizer
from zoo.tokenizers import sides, units
from zoo.vocabulary import extend_vocabulary


def extend(folder: str | Path, source: Source, min_count: int, out: str | Path) -> None:
    """Write the model of a folder with the words of a text that its vocabulary lacks.

    Args:
      folder: The model folder.
      source: The text.
      min_count: How often a word must occur to be added.
      out: The folder to write; the same start gives the same model, also for a resumed run.

    Raises:
      ValueError: If the tokens of the model are no words, or the count is less than 1.
    """
    if min_count < 1:
        raise ValueError(f"--add-words must be at least 1, not {min_count}")
    loaded = load(folder)
    tokenizer = sides(require_tokenizer(loaded)).source
    if not units.reads_words(tokenizer):
        raise ValueError(
            f"{folder} does not read whole words, so its pieces spell every new word: leave out "
            "--add-words"
        )
    of_text = vocabulary.tokenizer((piece.text for piece in source.pieces()), "word", min_count)
    known = set(tokenizer.get_vocab())
    ids = {word: id for word, id in of_text.get_vocab().items() if word not in known}
    extended = extend_vocabulary(loaded, sorted(ids, key=ids.__getitem__))
    save(extended, out, overwrite=True)
