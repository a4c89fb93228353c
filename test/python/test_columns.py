"""How the columns of a row are divided into blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tinymlir.kernels.columns import Span, none_alone, with_rest

Divide = Callable[[int, int, int], dict[int, Span]]


@pytest.mark.parametrize("divide", [with_rest, none_alone])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_each_column_is_in_one_block(divide: Divide, count: int) -> None:
    for first, width in itertools.product((0, 3), range(1, 20)):
        runs = divide(first, first + width, count)
        assert all((last - begin) % size == 0 for size, (begin, last) in runs.items())
        columns = [column for span in runs.values() for column in range(*span)]
        assert columns == list(range(first, first + width))


def test_a_column_that_would_be_alone_joins_others() -> None:
    assert none_alone(0, 9, 4) == {4: (0, 4), 3: (4, 7), 2: (7, 9)}
    assert none_alone(0, 7, 3) == {3: (0, 3), 2: (3, 7)}
    assert 1 in none_alone(0, 3, 2) and 1 in none_alone(0, 1, 4)
