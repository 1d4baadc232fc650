"""Where the parameters of our LSTM layers are in a torch.nn.LSTM of one layer or more.

Gates are in the same order in both; theirs stand below one another: [4D, E].
"""

from zoo.formats.weights import Row

GATES = 4


def rows(names: str, inputs: int, width: int) -> dict[str, Row]:
    """Return the rows of one layer.

    Args:
      names: The name of an array, such as "rnn.{}_l0", with {} for weight_ih and so on.
      inputs: The width of the input.
      width: The width of the state.
    """
    return {
        "input/kernel": Row(names.format("weight_ih"), (GATES * width, inputs), (1, 2, 0)),
        "input/bias": Row(names.format("bias_ih"), (GATES * width,)),
        "recurrent/kernel": Row(names.format("weight_hh"), (GATES * width, width), (1, 2, 0)),
        "recurrent/bias": Row(names.format("bias_hh"), (GATES * width,)),
    }
