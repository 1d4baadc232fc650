"""Weight decay by parameter path."""

import math
import re
from collections.abc import Callable, Iterable, Sequence

import jax
import optax

# Most papers exclude these from weight decay. XLNet's content_bias, position_bias and segment_bias
# do not match, because its authors decay them. The rank of a parameter is not a criterion: a bias
# may have the shape [H, K].
BIASES_AND_NORMS = (r"(^|/)bias$", r"norm[^/]*/scale$")


Mask = Callable[[optax.Params], optax.Params]


def undecayed(patterns: Sequence[str]) -> Mask:
    """Return the mask of weight decay: False for leaves whose path matches a pattern, else True.

    Patterns are regular expressions, searched in paths such as "blocks_0/mlp/up/bias". The mask
    raises ValueError if a pattern matches nothing; otherwise a renamed parameter would silently get
    weight decay.
    """

    def mask(params):
        paths = [_path(keys) for keys, _ in jax.tree.leaves_with_path(params)]
        unmatched = [p for p in patterns if not any(re.search(p, path) for path in paths)]
        if unmatched:
            raise ValueError(
                f"no parameter matches {' or '.join(unmatched)}: correct `undecayed` in the recipe"
            )
        return jax.tree.map_with_path(
            lambda keys, _: not any(re.search(p, _path(keys)) for p in patterns), params
        )

    return mask


def table(params: optax.Params, patterns: Sequence[str]) -> list[str]:
    """Return a table of the parameters with and without weight decay: leaves, parameters, paths.

    Args:
      params: Arrays or shapes.
      patterns: As in `undecayed`. `blocks_0`, `blocks_1`, ... are shown as `blocks_*`.
    """
    groups: dict[bool, list[tuple[str, int]]] = {True: [], False: []}
    decayed = jax.tree.leaves(undecayed(patterns)(params))
    for (keys, leaf), is_decayed in zip(jax.tree.leaves_with_path(params), decayed, strict=True):
        groups[is_decayed].append(
            (re.sub(r"_\d+(?=/|$)", "_*", _path(keys)), math.prod(leaf.shape))
        )
    lines = [f"{'weight decay':<12}  {'leaves':>6}  {'parameters':>14}  paths"]
    for name, leaves in (("decayed", groups[True]), ("not decayed", groups[False])):
        count = sum(size for _, size in leaves)
        paths = _abbreviated(dict.fromkeys(path for path, _ in leaves))
        lines.append(f"{name:<12}  {len(leaves):>6}  {count:>14,}  {paths}".rstrip())
    return lines


def _path(keys):
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _abbreviated(paths: Iterable[str], shown: int = 4) -> str:
    paths = list(paths)
    rest = [f"and {len(paths) - shown} more"] if len(paths) > shown else []
    return ", ".join(paths[:shown] + rest)
