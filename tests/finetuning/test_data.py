"""The examples of a task are split into training and development examples."""

from train.finetuning.data import split


def test_few_examples_are_spread_over_the_file():
    data = {"train": list(range(10)), "dev": [1]}
    assert split(data, 3)["train"] == [0, 3, 6]
    assert split(data, None) == split(data, 99) == data
    assert split({"train": list(range(20))}, None)["dev"] == [0, 10]
