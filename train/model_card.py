"""The model card of a trained directory, ``README.md``: what it is, what made it, how good it is, its limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from extract.atomic_write import write_atomic

CARD = "README.md"
_KINDS = {
    "encoder": (
        "Visual encoder",
        "Turns sampled frames of a sign language video into sign-wise features, for caching and for translation.",
        "import fla_slt as slt\n\nencoder = slt.load_encoder(FOLDER)\n"
        'features = encoder("clip.mp4")  # (steps, C) float32; of a folder of frames or a (T, H, W, 3) array, too',
    ),
    "stage1": (
        "Stage-1 translator",
        "Visual encoder, adapter and the light decoder that taught it: frames, or cached features, to text.",
        'import fla_slt as slt\n\ntranslator = slt.load_translator(FOLDER)\nprint(translator("clip.mp4").text)',
    ),
    "stage2": (
        "Stage-2 translator",
        "Adapter and language model: cached features of one fingerprint to text.",
        "import fla_slt as slt\n\ntranslator = slt.load_translator(FOLDER, encoder=ENCODER)  # made the features\n"
        'print(translator("clip.mp4").text)',
    ),
    "joint": (
        "Joint baseline",
        "Visual encoder, adapter and language model, trained end to end: frames to text.",
        'import fla_slt as slt\n\ntranslator = slt.load_translator(FOLDER)\nprint(translator("clip.mp4").text)',
    ),
    "lm": (
        "Language model",
        "A small encoder-decoder, pre-trained by denoising plain text, to be fine-tuned on cached features.",
        "from transformers import AutoModelForSeq2SeqLM, AutoTokenizer\n\n"
        "model = AutoModelForSeq2SeqLM.from_pretrained(FOLDER)\ntokenizer = AutoTokenizer.from_pretrained(FOLDER)",
    ),
}
"""Per directory of an experiment: title, what it does, how it is loaded."""
_LIMITS = (
    "It knows the signers, the topics and the recording conditions of its dataset, and nothing of others.",
    "A fluent sentence is no sign of a right one: compare with the rows `shuffled` and `text prior`.",
    "It has seen no glosses, and says nothing about grammar or about single signs.",
)
_INTENDED = (
    "Research on sign language translation. Not for use where a wrong translation can harm somebody: in medicine, "
    "in court, with authorities, in emergencies. It replaces no interpreter."
)


def write_card(
    folder: Path,
    *,
    name: str,
    data: Mapping[str, Any],
    recipe: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write, or write again with scores, the card of a trained directory.

    Args:
        folder: named ``encoder``, ``stage1``, ``translator``, ``joint`` or ``lm``, with its ``provenance.json``.
        name: of the experiment.
        data: dataset, language, clips per split, licence and source.
        recipe: the settings that made it.
        scores: row name to ``bleu1`` .. ``rouge``, ``signature`` and ``n``, of the test split.
    """
    title, about, loading = _KINDS[folder.name]
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    head = {
        "library_name": "transformers",
        "pipeline_tag": "translation",
        "language": data["language"][:2],
        "license": "other",
        "license_name": data["licence"],
        "tags": ["sign-language-translation", "gloss-free"],
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# {title} of `{name}`\n\n{about}",
        f"```python\n{loading}\n```\n\nIt loads with this import and nothing else; weights are safetensors, and "
        "nothing is unpickled.",
        "## Data\n\n" + _list(data),
        "## Recipe\n\nFLa-LLM's factorised learning ([arXiv 2403.12556](https://arxiv.org/abs/2403.12556)). All that "
        f"decided the result is in `provenance.json`.\n\n```yaml\n{yaml.safe_dump(dict(recipe), sort_keys=False)}```",
        "## Scores\n\n" + (_table(scores) if scores else "Not scored yet: `slt score` writes them here."),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _LIMITS),
        f"## Intended use\n\n{_INTENDED} Licence of the data, for what was learnt from them too: "
        f"{data['licence']}.",
        "## Files\n\n" + _list({f"`{file}`": f"SHA-256 `{digest}`" for file, digest in record["files"].items()})
        + "\n\n" + _list(record["versions"]),
    ]  # fmt: skip
    write_atomic(folder / CARD, "\n\n".join(parts) + "\n")


def _list(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in facts.items())


def _table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    columns = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge")
    lines = ["| row | B1 | B2 | B3 | B4 | ROUGE-L | clips |", "|---|---|---|---|---|---|---|"]
    for row, score in scores.items():
        lines.append(f"| {row} | " + " | ".join(f"{score[c]:.2f}" for c in columns) + f" | {score['n']} |")
    signatures: Sequence[str] = sorted({score["signature"] for score in scores.values()})
    return "\n".join(lines) + "\n\nTest split, x 100. " + "; ".join(f"`{one}`" for one in signatures)
