"""Products of one training step, 2 FLOP a multiply-add; embeddings are not counted.

A forward pass counts once and its backward pass twice; a teacher has no backward pass.
"""

TRAINED, READ = 3, 1  # passes


def step(work) -> float:
    """What the sizes of a work come to."""
    d, length, predictions = work.width, work.max_length, work.predictions
    encoder = _blocks(work, length, work.num_layers, d, work.mlp_width)
    head = lambda tokens, width: 2 * tokens * work.vocab_size * width
    if work.kind == "finetune":
        return _finetune(work)
    if work.model == "distilbert":
        student = _blocks(work, length, work.student_layers, d, work.mlp_width)
        texts = TRAINED * (student + head(length, d)) + READ * (encoder + head(length, d))
    elif work.model == "electra":
        generator = _blocks(work, length, work.num_layers, work.narrow, 4 * work.narrow)
        texts = TRAINED * (encoder + generator + head(predictions, work.embed_width))
    elif work.model == "rnn":
        # Four gates read the layer below and the state; alone there is no head.
        gates = 2 * length * work.num_layers * 4 * 2 * d * d
        texts = TRAINED * (gates + (head(length, d) if work.kind == "recurrent" else 0))
    elif work.model in ("t5", "t5_v1_1", "transformer"):
        targets = work.targets if work.model != "transformer" else length
        decoder = _blocks(work, targets, work.num_layers, d, work.mlp_width)
        # The decoder asks with its own states and looks at those of the source.
        source = 4 * work.num_layers * d * d * (targets + length)
        source += 4 * work.num_layers * targets * length * d
        texts = TRAINED * (encoder + decoder + source + head(targets, d))
    else:
        width = work.narrow if work.model == "albert" else d
        texts = TRAINED * (encoder + head(length if work.model == "gpt2" else predictions, width))
    return work.rows * texts


def _finetune(work) -> float:
    """All blocks are read, and those that learn have a backward pass, to the lowest of them."""
    from tests.speed.work import labelled

    lengths = labelled(work)[1] if work.texts else [work.max_length] * work.rows
    learning = min(work.trained - 1, work.num_layers) if work.trained else work.num_layers
    layers = READ * work.num_layers + (TRAINED - READ) * learning
    return work.runs * sum(_blocks(work, n, layers, work.width, work.mlp_width) for n in lengths)


def _blocks(work, length: int, layers: int, width: int, mlp_width: int) -> float:
    """Forward through the blocks for one text: the maps, then scores and mix."""
    matrices = 3 if work.model == "t5_v1_1" else 2  # one more is the gate
    maps = 2 * (4 * width * width + matrices * width * mlp_width)
    return layers * length * (maps + 4 * length * width)
