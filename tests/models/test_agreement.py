"""Comparing token rows."""

from __future__ import annotations

from onelaunch.models.agreement import compare_tokens


def test_equal():
    assert str(compare_tokens([[1, 2], [3]], [[1, 2], [3]])) == "yes, all 3"


def test_first_difference_ends_the_row():
    agreement = compare_tokens([[1, 2, 9, 4], [5]], [[1, 2, 3, 4], [5]])
    assert (agreement.equal, agreement.total, agreement.complete) == (3, 5, False)
    assert str(agreement) == "3 of 5 before the first difference (1 of 2 rows equal)"


def test_an_earlier_end_is_a_difference():
    assert not compare_tokens([[1, 2]], [[1, 2, 3]]).complete
