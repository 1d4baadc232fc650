"""Pretraining whose input table starts from word vectors."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from train.recipes.embeddings import Embeddings
from train.recipes.recipe import Recipe
from zoo import registry
from zoo.checkpoints.load import load
from zoo.contracts import WordVectorModel
from zoo.params import abstract, flatten

TABLE = "token_embedding/embedding"  # the end of the path of an input table
R = TypeVar("R", bound=Recipe)


def with_embeddings(recipe: R, name: str | Path, *, frozen: bool) -> R:
    """Return the recipe with the vectors of a folder or file as its initial input table.

    Raises:
      ValueError: If there are no word vectors, or the model has no input table of their width.
    """
    loaded = load(name)
    if not isinstance(loaded.model, WordVectorModel) or loaded.tokenizer is None:
        raise ValueError(
            f"--embeddings {name} contains a {type(loaded.model).__name__}, not word vectors: use "
            "those of word2vec, GloVe or fastText"
        )
    config: Any = recipe.config
    width = loaded.model.config.width
    if "embed_width" in vars(config):
        recipe = replace(recipe, config=replace(config, embed_width=width))
    elif config.width != width:
        raise ValueError(
            f"--embeddings {name} is {width} wide, but {recipe.name} is {config.width} wide: use "
            f"--config width={width}"
        )
    shapes = flatten(abstract(registry.named(recipe.architecture).Model(recipe.config)))
    paths = [path for path in shapes if path.endswith(TABLE)]
    if len(paths) != 1 or shapes[paths[0]].shape[1] != width:
        raise ValueError(
            f"{recipe.name} has no single input table of word vectors: --embeddings is for "
            "language models such as lstm-lm-tiny"
        )
    return replace(recipe, embeddings=Embeddings(str(name), loaded, paths[0], frozen))
