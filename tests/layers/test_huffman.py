"""The tree of a hierarchical softmax is that of the original programs."""

import numpy as np
import pytest

from zoo.layers import huffman


def tree_of_the_program(counts):
    """Return the nodes and signs of each path, as the C code of word2vec and fastText builds it."""
    size = len(counts)
    count = [*counts, *[10**15] * size]
    parent, right = [0] * (2 * size), [False] * (2 * size)
    leaf, node = size - 1, size
    for new in range(size, 2 * size - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and count[leaf] < count[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        count[new] = count[pair[0]] + count[pair[1]]
        parent[pair[0]] = parent[pair[1]] = new
        right[pair[1]] = True
    paths = []
    for word in range(size):
        path = []
        while word != 2 * size - 2:
            path.append((parent[word] - size, 1 if right[word] else -1))
            word = parent[word]
        paths.append(path[::-1])
    return paths


@pytest.mark.parametrize(
    "counts",
    [[9, 5, 4, 4, 2, 1, 1], [1] * 7, [3, 3, 3, 2, 1, 1, 1, 1, 0, 0], [8, 4, 2, 2, 1, 1], [2, 1]],
    ids=str,
)
def test_equal_counts_are_in_the_order_of_the_program(counts):
    nodes_VH, signs_VH = huffman.tree(np.array(counts))
    paths = [
        [(node, sign) for node, sign in zip(nodes, signs, strict=True) if sign]
        for nodes, signs in zip(nodes_VH.tolist(), signs_VH.tolist(), strict=True)
    ]
    assert paths == tree_of_the_program(counts)


def test_a_huffman_tree_gives_frequent_words_short_paths():
    nodes, signs = huffman.tree(np.array([40, 1, 1, 20, 10]))
    lengths = np.abs(signs).sum(1)
    assert lengths.tolist() == [1, 4, 4, 2, 3]
    assert (nodes[:, 0] == 3).all()  # the root is the last of the four inner nodes
    codes = {tuple(row[row != 0]) for row in signs}
    assert len(codes) == 5
    assert signs[[1, 2], 3].tolist() == [1, -1]  # of equal counts, the last word is on the left
