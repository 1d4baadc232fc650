"""Added tokens: those that a folder names beside its vocabulary, with the ids of transformers.

The tokenizers library, and so transformers 5, numbers an added token itself: by the vocabulary if
it has the token, otherwise after all entries, in the order of the ids that the folder states. A
folder whose ids differ from that is refused: the model was trained with other ids.
"""

import json
import warnings

from tokenizers import AddedToken, Tokenizer

from zoo.tokenizers.settings import Settings


def add(tokenizer: Tokenizer, settings: Settings, repeated: int = 0) -> None:
    """Add the tokens that a folder names, before those of the class are marked.

    Args:
      tokenizer: The tokenizer of the vocabulary; changed.
      settings: What the files beside the vocabulary say.
      repeated: The number of lines of the vocabulary that repeat another one. Added tokens are
        numbered by the other lines, as in transformers, with a warning if the folder counts all.

    Raises:
      ValueError: If a stated id differs from the one that the token gets, or two tokens get one id.
    """
    vocabulary = tokenizer.get_vocab()
    tokenizer.add_tokens(list(declared(settings).values()))
    _check_ids(tokenizer, settings, repeated)
    used = {id: text for text, id in vocabulary.items()}
    for text, id in tokenizer.get_vocab().items():
        if text not in vocabulary and id in used and not repeated:
            raise ValueError(
                f"{settings.folder}: the vocabulary has gaps between its ids, so the added token "
                f"{text!r} would get the id {id} of {used[id]!r}: number its entries without gaps"
            )


def add_to_json(tokenizer: Tokenizer, settings: Settings) -> None:
    """Add the tokens that a folder names and its `tokenizer.json` lacks.

    A special token that is nowhere in the vocabulary is left out.

    Raises:
      ValueError: If the files give a token other ids, or treat the text around it differently.
    """
    tokens = declared(settings)
    stated = {token.content for token in settings.added.values()}
    known = tokenizer.get_added_tokens_decoder().values()
    for token in known if settings.options.get("added_tokens_decoder") else ():
        other = tokens.get(token.content)
        for name in ("single_word", "lstrip", "rstrip", "normalized"):
            if other and getattr(other, name) != getattr(token, name):
                raise ValueError(
                    f"{settings.folder}: {name} of {token.content!r} is {getattr(token, name)} in "
                    f"tokenizer.json and {getattr(other, name)} in tokenizer_config.json: "
                    "correct one of them"
                )
    known_texts = {token.content for token in known}
    vocabulary = tokenizer.get_vocab()
    tokenizer.add_tokens(
        [
            token
            for text, token in tokens.items()
            if text not in known_texts and (text in stated or text in vocabulary)
        ]
    )
    _check_ids(tokenizer, settings)


def check_json_ids(tokenizer: Tokenizer, content: dict) -> None:
    """Raise ValueError if a token of a tokenizer.json gets another id than it states."""
    for token in content.get("added_tokens") or ():
        actual = tokenizer.token_to_id(token["content"])
        if actual != token["id"]:
            raise ValueError(_wrong_id("it", token["content"], token["id"], actual))


def declared(settings: Settings) -> dict[str, AddedToken]:
    """Return the tokens that a folder names by their text, in the order of their ids."""
    tokens = {token.content: token for _, token in sorted(settings.added.items())}
    for token in (*settings.special.values(), *settings.extra):
        tokens.setdefault(token.content, token)
    return tokens


def _check_ids(tokenizer: Tokenizer, settings: Settings, repeated: int = 0) -> None:
    of_config = "added_tokens_decoder" in settings.options
    name = "tokenizer_config.json" if of_config else "added_tokens.json"
    shifted = []
    for id, token in settings.added.items():
        actual = tokenizer.token_to_id(token.content)
        if actual is None or id - actual not in (0, repeated):
            raise ValueError(_wrong_id(name, token.content, id, actual))
        if actual != id:
            shifted.append(f"{token.content!r} {actual} for {id}")
    if shifted:
        warnings.warn(
            f"{settings.folder}: the vocabulary repeats entries, so added tokens get other ids "
            f"than {name} states, as in transformers: {', '.join(shifted[:3])}",
            stacklevel=2,
        )


def _wrong_id(name: str, text: str, stated: int, actual: int | None) -> str:
    return (
        f"{name} states the id {json.dumps(stated):.20} for the added token {text!r:.60}, but "
        f"transformers and zoo give it {actual}: a token of the vocabulary keeps its id there, "
        "and others follow the vocabulary without gaps"
    )
