"""Word error rate: which words of the reference were deleted, replaced, or had others put between them."""

from __future__ import annotations

from collections.abc import Sequence

DELETE, INSERT, SUBSTITUTE = 3, 3, 4
"""Costs of the alignment, as in neccam/slt and NIST's sclite: a replacement costs less than a deletion with an
insertion. WER counts the errors of the alignment, each as one."""

Pair = tuple[str | None, str | None]
"""A word of the reference and one of the hypothesis: None against a word is an insertion or a deletion."""


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """The cheapest alignment, in order. Where several are, it has matches and replacements as late as possible."""
    costs = _costs(reference, hypothesis)
    pairs: list[Pair] = []
    row, column = len(reference), len(hypothesis)
    while row or column:
        here = costs[row][column]
        if row and column and (
            (reference[row - 1] == hypothesis[column - 1] and here == costs[row - 1][column - 1])
            or here == costs[row - 1][column - 1] + SUBSTITUTE
        ):  # fmt: skip
            pairs.append((reference[row - 1], hypothesis[column - 1]))
            row, column = row - 1, column - 1
        elif column and here == costs[row][column - 1] + INSERT:
            pairs.append((None, hypothesis[column - 1]))
            column -= 1
        else:
            pairs.append((reference[row - 1], None))
            row -= 1
    return pairs[::-1]


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Deletions, insertions and replacements of one sentence."""
    if reference == hypothesis:
        return 0
    return sum(left != right for left, right in align(reference, hypothesis))


def _costs(reference: Sequence[str], hypothesis: Sequence[str]) -> list[list[int]]:
    """``costs[i][j]``: of turning the first i words of the reference into the first j of the hypothesis."""
    costs = [[INSERT * column for column in range(len(hypothesis) + 1)]]
    for row, word in enumerate(reference, start=1):
        above, left = costs[-1], DELETE * row
        line = [left]
        for column, other in enumerate(hypothesis):
            diagonal = above[column]
            if word != other:
                diagonal += SUBSTITUTE
                if left + INSERT < diagonal:
                    diagonal = left + INSERT
                if above[column + 1] + DELETE < diagonal:
                    diagonal = above[column + 1] + DELETE
            left = diagonal
            line.append(left)
        costs.append(line)
    return costs
