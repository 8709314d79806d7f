"""Whether the signs of a vocabulary can be told apart in small pictures: ``python benchmarks/drawn_signs.py TABLE``.

``TABLE`` is one that ``slt corpus DIR --texts`` draws. Each of its signs is drawn alone at 64 x 64 pixels, three times
by each of nine signers; a linear probe (ridge regression to the sign) sees three frames of it, at half that size. It
learns from two of the three drawings of seven signers, and is asked about the third, and about the two other signers.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # not this folder, whose modules would hide the packages

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.page import write_report
from pipeline.corpus.lexicon import SignForm, vocabulary_forms
from pipeline.corpus.motion import poses
from pipeline.corpus.signer import Canvas, Look
from pipeline.corpus.text_table import SIGNERS, read_text_table

SIDE, FRAMES, SEEN = 32, (6, 10, 14), 7
RIDGE = 0.1


def picture(form: SignForm, signer: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Three frames of a sign, in the middle of 21."""
    look = Look.draw(0, signer)
    camera = (float(rng.normal(0, 0.04)), float(rng.normal(0, 0.03)))
    canvas = Canvas(look, 2 * SIDE, 2 * SIDE, camera, float(rng.uniform(0.85, 1.12)))
    path = poses([form], look, rng, 21)
    small = [cv2.resize(canvas.draw(path[at]), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for at in FRAMES]
    return np.concatenate(small, axis=None).astype(np.float32) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/drawn_signs.json"))
    options = parser.parse_args()
    forms = vocabulary_forms((sign for said in read_text_table(options.table, 0) for sign in said.signs), 0)
    rng = np.random.default_rng(0)
    drawn = np.stack([[[picture(form, signer, rng) for _ in range(3)] for signer in range(SIGNERS)]
                      for form in forms.values()])  # fmt: skip
    learnt = drawn[:, :SEEN, :2].reshape(-1, drawn.shape[-1])
    mean, spread = learnt.mean(0), np.maximum(learnt.std(0), 1e-2)
    learnt = (learnt - mean) / spread
    gram = learnt @ learnt.T
    gram[np.diag_indices_from(gram)] += RIDGE * gram.trace() / len(gram)
    wanted = np.repeat(np.eye(len(forms), dtype=np.float32), SEEN * 2, axis=0)
    probe = learnt.T @ np.linalg.solve(gram, wanted)
    figures: dict[str, float] = {"signs": len(forms)}
    for name, asked in (("seen_signers", drawn[:, :SEEN, 2]), ("other_signers", drawn[:, SEEN:, 2])):
        found = np.argsort(-((asked - mean) / spread @ probe), axis=-1)
        right = found == np.arange(len(forms))[:, None, None]
        figures |= {f"{name}_first": right[..., 0].mean(), f"{name}_first_five": right[..., :5].any(-1).mean()}
    write_report(
        {
            "title": "Drawn signs told apart",
            "command": "python benchmarks/drawn_signs.py TABLE",
            "machine": f"{platform.machine()}, numpy {np.__version__}",
            "figures": {name: float(value) for name, value in figures.items()},
            "ratios": {},
            "notes": [f"By chance: {1 / len(forms):.4f}. TABLE: the sentences and glosses of PHOENIX14T's release."],
        },
        options.out,
    )


if __name__ == "__main__":
    main()
