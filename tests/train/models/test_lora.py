"""Low-rank updates by peft: what is trained, what is saved, and that merged and kept updates translate alike."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import MBartTokenizer, PreTrainedModel

from extract.dataset.clip_index import Clip
from extract.errors import InputError
from extract.store.feature_store import FeatureStore
from train.models.language_model import build_mbart
from train.models.lora import add_lora
from train.models.tokenizer import train_tokenizer
from train.models.translator import SignTranslator
from train.recipes.stage2 import Translated, train_stage2
from train.settings import LoraSettings, Stage2Settings, TransformerSettings

peft = pytest.importorskip("peft")

LINES = ["es regnet", "es schneit stark", "im norden wird es kalt", "am montag scheint die sonne"]


@pytest.fixture(scope="module")
def tokenizer() -> MBartTokenizer:
    return train_tokenizer(LINES, 60, "de_DE")


@pytest.fixture(scope="module")
def language_model(tokenizer: MBartTokenizer) -> PreTrainedModel:
    torch.manual_seed(0)
    return build_mbart(TransformerSettings(layers=1, heads=2, d_model=16, ffn=32), tokenizer, "de_DE")


@pytest.fixture
def trained(language_model: PreTrainedModel, tokenizer: MBartTokenizer, tmp_path: Path) -> tuple[Translated, list[str]]:
    rng = np.random.default_rng(0)
    stores, splits = [], []
    for split in ("train", "dev"):
        splits.append([Clip(f"{split}{i}", split, "x", 20, 25.0, LINES[i % 4], "de_DE") for i in range(12)])
        store = FeatureStore.create(tmp_path / f"{split}.zarr", {"test": "yes"}, width=6, dtype="float32")
        store.write_block("b", [(clip.id, rng.random((5, 6), np.float32)) for clip in splits[-1]])
        stores.append(FeatureStore.open(store.location))
    settings = Stage2Settings.model_validate(
        {"language_model": "lm", "steps": 8, "epochs": None, "learning_rate": 1e-2, "evaluate_every": 4,
         "max_length": 6, "lora": {"rank": 4, "keep": True}}
    )  # fmt: skip
    said: list[str] = []
    done = train_stage2(
        *stores, *splits, settings, copy.deepcopy(language_model), tokenizer, tmp_path / "work", say=said.append
    )
    return done, said


def test_only_updates_and_adapter_are_trained(
    trained: tuple[Translated, list[str]], language_model: PreTrainedModel
) -> None:
    done, said = trained
    adapter = sum(weight.numel() for weight in done.model.adapter.parameters())
    changed = {
        name
        for name, weight in done.model.language_model.state_dict().items()
        if not torch.equal(weight.cpu(), language_model.state_dict()[name])
    }
    assert changed  # merged into layers that have one
    assert all(name.rpartition(".")[2] == "weight" and ("proj" in name or "fc" in name) for name in changed)
    linear = {
        name: module
        for name, module in language_model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    updates = sum(4 * (module.in_features + module.out_features) for module in linear.values())
    frozen = sum(weight.numel() for weight in language_model.parameters())
    assert said[0].startswith(f"{(adapter + updates) / 1e6:.2f} M parameters trained, {frozen / 1e6:.2f} M frozen")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@torch.no_grad()
def test_merged_and_kept_updates_translate_alike(
    trained: tuple[Translated, list[str]], language_model: PreTrainedModel, tmp_path: Path
) -> None:
    done, _ = trained
    done.model.save_pretrained(tmp_path / "translator")
    merged = SignTranslator.from_pretrained(tmp_path / "translator").eval()
    assert not any("lora" in name for name in merged.state_dict())
    assert done.updates is not None
    assert {path.name for path in done.updates.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    beside = copy.deepcopy(merged)
    beside.language_model = peft.PeftModel.from_pretrained(copy.deepcopy(language_model), done.updates).eval()
    inputs = {
        "features": torch.randn(9, 6, generator=torch.Generator().manual_seed(0)),
        "lengths": torch.tensor([4, 5]),
    }
    labels = torch.tensor([[5, 6, 2], [7, 2, -100]])
    torch.testing.assert_close(merged(labels=labels, **inputs).logits, beside(labels=labels, **inputs).logits)
    options = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False}
    expected = done.model.cpu().generate(**inputs, **options).tolist()
    assert merged.generate(**inputs, **options).tolist() == expected
    assert beside.generate(**inputs, **options).tolist() == expected


def test_layers_that_do_not_exist_are_refused(language_model: PreTrainedModel) -> None:
    with pytest.raises(InputError, match=r"found \('query',\)"):
        add_lora(copy.deepcopy(language_model), LoraSettings(targets=("query",)))
