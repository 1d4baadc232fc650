"""Length buckets are few, hold every sequence, and need little padding."""

import pytest

from zoo.inference.length_buckets import bucket, bucket_boundaries, merged


def test_boundaries_grow_alternately_by_a_half_and_a_third():
    assert bucket_boundaries(128) == [8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert bucket_boundaries(100) == [8, 12, 16, 24, 32, 48, 64, 96, 100]
    assert bucket_boundaries(8) == [8]
    assert bucket_boundaries(5) == [5]


@pytest.mark.parametrize("longest", [1, 7, 8, 9, 12, 50, 512])
def test_a_sequence_is_padded_to_the_first_boundary_that_holds_it(longest):
    boundaries = bucket_boundaries(longest)
    assert boundaries == sorted(set(boundaries))
    for length in range(longest + 1):
        padded = bucket(length, longest)
        assert padded == next(boundary for boundary in boundaries if boundary >= length)
        assert padded <= longest
        assert length < 6 or padded - length <= padded / 3


def test_a_sequence_that_no_bucket_holds_is_refused():
    with pytest.raises(ValueError, match="a sequence of 9 tokens exceeds the maximum length of 8"):
        bucket(9, 8)


def test_a_length_that_few_have_becomes_the_next_longer_one():
    assert merged([8, 24, 8, 16, 24, 8], 1) == [8, 24, 8, 16, 24, 8]
    assert merged([8, 24, 8, 16, 24, 8], 3) == [8, 24, 8, 24, 24, 8]
    assert merged([8, 24, 8, 16, 24, 8], 4) == [16, 24, 16, 16, 24, 16]
    assert merged([8, 12, 24], 9) == [24, 24, 24]
    assert merged([], 9) == []
