"""ROUGE-L as the field computes it: longest common subsequence, F with beta 1.2, mean over sentences.

Lin 2004, section 3.1, in the form of the MS COCO caption code that neccam/slt and nlg-eval carry. The
packages ``rouge`` and ``rouge_score`` compute other numbers (beta 1, other tokens, stemming): not comparable.
"""

from __future__ import annotations

from collections.abc import Sequence


def sentence_rouge_l(hypothesis: Sequence[str], reference: Sequence[str], *, beta: float = 1.2) -> float:
    """ROUGE-L F of one sentence, 0..1; 0 where either side is empty, so that an empty hypothesis counts."""
    common = lcs_length(hypothesis, reference)
    if common == 0:
        return 0.0
    precision, recall = common / len(hypothesis), common / len(reference)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def lcs_length(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit-parallel: one big-integer step per token of ``right``.

    Hyyrö 2004, "Bit-parallel LCS-length computation revisited". A zero bit i of ``row`` says that the dynamic
    programme's value grows between left[:i] and left[:i + 1]; the carry of the addition moves those zeros.
    """
    positions: dict[str, int] = {}
    for index, token in enumerate(left):
        positions[token] = positions.get(token, 0) | 1 << index
    everywhere = (1 << len(left)) - 1
    row = everywhere
    for token in right:
        if matches := row & positions.get(token, 0):
            row = (row + matches | row - matches) & everywhere
    return len(left) - row.bit_count()
