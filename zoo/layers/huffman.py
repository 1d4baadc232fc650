"""The binary tree of a hierarchical softmax: a Huffman tree of word counts.

Mikolov et al. 2013b, section 2.1: frequent words have short paths. V words have V - 1 inner nodes,
numbered in the order of their creation; the last one, V - 2, is the root. Equal counts are in
the order of word2vec and fastText, whose files have the outputs of the nodes but not the tree.
"""

import heapq

import numpy as np


def tree(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the path from the root to every word.

    Of the two rarest nodes, the rarer one is on the left, whose code is 0. Among equally rare ones,
    inner nodes come first, in their order, and then words, the last one first.

    Args:
      counts: How often each word occurs: [V].

    Returns:
      nodes_VH, the inner nodes of each path, and signs_VH, -1 where it turns left and 1 where it
      turns right. Both are 0 beyond the end of a path.
    """
    V = len(counts)
    parent, sign = np.zeros(2 * V - 1, np.int64), np.zeros(2 * V - 1, np.int8)
    heap = [(int(count), V - word, word) for word, count in enumerate(counts)]
    heapq.heapify(heap)
    for node in range(V, 2 * V - 1):
        (left_count, _, left), (right_count, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        parent[[left, right]], sign[[left, right]] = node, (-1, 1)
        heapq.heappush(heap, (left_count + right_count, node - 2 * V, node))
    paths: list[tuple[list[int], list[int]]] = []
    for word in range(V):
        nodes, signs, at = [], [], word
        while at != 2 * V - 2:
            signs.append(int(sign[at]))
            at = int(parent[at])
            nodes.append(at - V)
        paths.append((nodes[::-1], signs[::-1]))
    depth = max(len(nodes) for nodes, _ in paths)
    nodes_VH, signs_VH = np.zeros((V, depth), np.int32), np.zeros((V, depth), np.float32)
    for word, (nodes, signs) in enumerate(paths):
        nodes_VH[word, : len(nodes)], signs_VH[word, : len(signs)] = nodes, signs
    return nodes_VH, signs_VH
