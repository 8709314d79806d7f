"""Both families of language models: where generation begins, what the adapter feeds them, loading and bad folders."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, MBart50Tokenizer, PreTrainedModel, PreTrainedTokenizerBase

from extract.dataset.clip_index import Clip
from extract.dataset.manifest import load_manifest
from extract.errors import InputError
from extract.store.feature_store import FeatureStore
from tests.train.conftest import LINES
from train.data.targets import encode_targets, pad_labels
from train.models.language_model import build_mbart, load_language_model, set_language
from train.models.tokenizer import load_tokenizer, train_tokenizer
from train.models.translator import SignTranslator
from train.recipes.stage2 import train_stage2
from train.settings import AdapterSettings, Stage2Settings, TransformerSettings


@pytest.fixture(params=["small_mbart", "small_mt5"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


LIGHT_T = TransformerSettings(layers=1, heads=2, d_model=16, ffn=32, dropout=0.0, positions=40)


def light_t(folder: Path) -> tuple[SignTranslator, PreTrainedTokenizerBase]:
    """Stage 1's decoder with the tokenizer of a language model."""
    tokenizer = load_tokenizer(folder, "de_DE")
    torch.manual_seed(1)
    return SignTranslator.compose(build_mbart(LIGHT_T, tokenizer, "de_DE"), AdapterSettings(), 12).eval(), tokenizer


def translator(folder: Path, width: int = 12) -> tuple[SignTranslator, PreTrainedTokenizerBase]:
    model, tokenizer = load_language_model(folder, "de_DE")
    torch.manual_seed(1)
    return SignTranslator.compose(model, AdapterSettings(), width).eval(), tokenizer


def inputs(tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    features = torch.randn(12, 12, generator=torch.Generator().manual_seed(2))
    labels = pad_labels(encode_targets(tokenizer, LINES[:3]))
    return {"labels": labels, "lengths": torch.tensor([3, 5, 4]), "features": features}


@torch.no_grad()
def test_generation_begins_where_training_does(folder: Path) -> None:
    """With mBART's language code, mT5's padding, and in Light-T beside mT5 the end of sentence; the first piece is
    then the one that training puts there."""
    own = {"mbart": ("de_DE", "de_DE"), "mt5": ("<pad>", "</s>")}[folder.name.split("-")[0]]
    for (model, tokenizer), start in zip((translator(folder), light_t(folder)), own, strict=True):
        _begins_with(model, tokenizer, tokenizer.convert_tokens_to_ids(start))


def _begins_with(model: SignTranslator, tokenizer: PreTrainedTokenizerBase, start: int) -> None:
    batch = inputs(tokenizer)
    shifted = model.language_model.prepare_decoder_input_ids_from_labels(batch["labels"])
    assert shifted[:, 0].tolist() == [start] * 3
    generated = model.generate(lengths=batch["lengths"], features=batch["features"], num_beams=1, max_new_tokens=4)
    assert generated[:, 0].tolist() == [start] * 3
    assert generated[:, 1].tolist() == model(**batch).logits[:, 0].argmax(-1).tolist()
    stopped = model.generate(lengths=batch["lengths"], features=batch["features"], num_beams=5, max_new_tokens=4)
    if model.language_model.config.model_type == "mbart":  # one that would go on is ended
        assert set(stopped[:, -1].tolist()) <= {tokenizer.eos_token_id, tokenizer.pad_token_id}


def test_each_dataset_has_its_language_code(mbart_whole: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    """Of mBART-large-cc25's own vocabulary, for the languages of the datasets' manifest."""
    model, tokenizer = copy.deepcopy(mbart_whole[0]), mbart_whole[1]
    assert len(tokenizer) == model.config.vocab_size == 250_027
    assert tokenizer.mask_token_id == 250_026
    for dataset, id in (("phoenix14t", 250_003), ("how2sign", 250_004), ("csl_daily", 250_025)):
        language = load_manifest()[dataset].language
        tokenizer.tgt_lang = language
        set_language(model, tokenizer, language)
        targets = encode_targets(tokenizer, ["x", "x x x"])
        assert [ids[-2:] for ids in targets] == [[2, id]] * 2
        assert model.config.decoder_start_token_id == model.generation_config.decoder_start_token_id == id
        assert model.generation_config.forced_eos_token_id == 2
        assert model.prepare_decoder_input_ids_from_labels(pad_labels(targets))[:, 0].tolist() == [id, id]


@torch.no_grad()
def test_the_adapter_takes_the_place_of_the_word_embedding(folder: Path) -> None:
    """An adapter that gives the embeddings of words has the model see the words: scaled for mBART, not for mT5."""
    language_model, tokenizer = load_language_model(folder, "de_DE")
    table = language_model.get_input_embeddings().weight
    model = SignTranslator.compose(language_model, AdapterSettings(hidden=len(table), norm=False), len(table)).eval()
    model.adapter.hidden.weight.copy_(torch.eye(len(table)))
    model.adapter.output.weight.copy_(table.T)
    model.adapter.hidden.bias.zero_()
    model.adapter.output.bias.zero_()
    ids = encode_targets(tokenizer, LINES[:2])
    labels = pad_labels(ids)
    features = torch.nn.functional.one_hot(torch.tensor([id for row in ids for id in row]), len(table)).float()
    seen = model(labels=labels, lengths=torch.tensor([len(row) for row in ids]), features=features)
    mask = labels >= 0
    words = language_model(
        input_ids=labels.clamp(min=0), attention_mask=mask.long(),
        decoder_input_ids=language_model.prepare_decoder_input_ids_from_labels(labels),
    )  # fmt: skip
    torch.testing.assert_close(seen.logits[mask], words.logits[mask], atol=1e-5, rtol=1e-5)
    assert model.adapter.scale == (4.0 if "mbart" in folder.name else 1.0)


@torch.no_grad()
def test_pretrained_weights_survive_and_are_saved(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = translator(folder)
    weights = load_file(folder / "model.safetensors")
    for name, value in model.language_model.state_dict().items():
        if name in weights:
            assert torch.equal(value, weights[name]), name
    batch = inputs(tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again = SignTranslator.from_pretrained(tmp_path).eval()
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    found = [
        m.generate(lengths=batch["lengths"], features=batch["features"], num_beams=5, max_new_tokens=6)
        for m in (model, again)
    ]
    assert torch.equal(*found)
    assert encode_targets(load_tokenizer(tmp_path, "de_DE"), LINES) == encode_targets(tokenizer, LINES)


def test_random_weights_are_the_control(folder: Path, tmp_path: Path) -> None:
    """Shape and tokenizer of the named model, weights by seed; the file of weights is not even read."""
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    first, tokenizer = load_language_model(bare, "de_DE", pretrained=False, seed=1)
    again, _ = load_language_model(bare, "de_DE", pretrained=False, seed=1)
    other, _ = load_language_model(bare, "de_DE", pretrained=False, seed=2)
    real, known = load_language_model(folder, "de_DE")
    assert first.num_parameters() == real.num_parameters()
    assert tokenizer.get_vocab() == known.get_vocab()
    table = [model.get_input_embeddings().weight for model in (first, again, other, real)]
    assert torch.equal(table[0], table[1])
    assert not any(torch.equal(table[0], weight) for weight in table[2:])
    with pytest.raises(InputError, match="weights of an encoder-decoder"):
        load_language_model(bare, "de_DE")


def test_stage_2_learns_with_mt5(small_mt5: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [Clip(f"c{i}", "train", "x", 20, 25.0, LINES[i % 5], "de_DE") for i in range(10)]
    for name in ("train", "dev"):
        made = FeatureStore.create(tmp_path / f"{name}.zarr", {"test": "yes"}, width=6, dtype="float32")
        made.write_block("b", [(clip.id, rng.random((5, 6), np.float32)) for clip in clips])
    train, dev = (FeatureStore.open(tmp_path / f"{name}.zarr") for name in ("train", "dev"))
    settings = Stage2Settings(
        steps=6, epochs=None, evaluate_every=3, max_length=8, learning_rate=3e-3, batch_size=5, precision="fp32"
    )
    language_model, tokenizer = load_language_model(small_mt5, "de_DE")
    done = train_stage2(train, dev, clips, clips, settings, language_model, tokenizer, tmp_path / "work")
    losses = [entry["eval_loss"] for entry in done.log if "eval_loss" in entry]
    assert losses[1] < losses[0]


def cached(cache: Path, folder: Path, name: str) -> None:
    """Lay a model down as the hub's library does in its cache."""
    snapshot = cache / f"models--{name.replace('/', '--')}" / "snapshots" / "0123"
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("0123")


@pytest.mark.slow
def test_a_name_is_looked_up_in_the_cache_and_fetched_only_then(small_mbart: Path, tmp_path: Path) -> None:
    """Without network: a model of the cache loads; one that is nowhere is refused within seconds."""
    cached(tmp_path, small_mbart, "facebook/mbart-large-cc25")
    code = """
        import time
        from extract.errors import InputError
        from train.models.language_model import load_language_model, set_language
        model, tokenizer = load_language_model("facebook/mbart-large-cc25", "de_DE")
        assert len(tokenizer) == model.config.vocab_size
        start = time.monotonic()
        try:
            load_language_model("google/mt5-base", "de_DE")
        except InputError as error:
            print(f"{time.monotonic() - start:.0f} {error}")
    """
    nobody = {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": ""}
    lines = "\n".join(line.strip() if not line.startswith(" " * 12) else line[8:] for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], env={**os.environ, **nobody}, capture_output=True, text=True,
                          check=True)  # fmt: skip
    seconds, _, message = done.stdout.partition(" ")
    assert int(seconds) < 10
    assert "in the Hugging Face cache, found neither, and no network" in message
    assert "hf download google/mt5-base --exclude '*.h5' '*.msgpack' '*.ot'" in message
    assert "train.stage2.language_model=/path/to/mt5-base" in message


def changed(folder: Path, to: Path, **fields: object) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text()) | fields
    (to / "config.json").write_text(json.dumps(config))
    return to


def test_folders_that_are_no_language_model(small_mbart: Path, small_mt5: Path, tmp_path: Path) -> None:
    def refused(folder: Path, says: str) -> None:
        with pytest.raises(InputError, match=says):
            load_language_model(folder, "de_DE")

    refused(tmp_path / "nowhere", "a folder, or a name on the Hugging Face hub, found no such folder")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "expected an encoder-decoder")
    bert = tmp_path / "bert"
    BertModel(BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        bert
    )
    load_tokenizer(small_mbart).save_pretrained(bert)
    refused(bert, "mBART, T5 or mT5, found model_type bert")

    lacking = Path(shutil.copytree(small_mbart, tmp_path / "lacking"))
    weights = load_file(lacking / "model.safetensors")
    gone = sorted(name for name in weights if "decoder.layers.0.fc1" in name)
    save_file({name: value for name, value in weights.items() if name not in gone}, lacking / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    refused(lacking, f"no weights of {gone[0]} and 1 more")
    (lacking / "model.safetensors").write_bytes(b"cut off")
    refused(lacking, "weights of an encoder-decoder")
    refused(changed(small_mbart, tmp_path / "wide", d_model=32), "weights of an encoder-decoder")


def test_code_in_a_model_folder_is_never_run(tmp_path: Path) -> None:
    """Not even for a person who says yes at the terminal: nobody is asked."""
    names = {"AutoConfig": "custom.Config", "AutoModelForSeq2SeqLM": "custom.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "custom", "auto_map": names}))
    (tmp_path / "custom.py").write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'ran')!r}).touch()\n")
    code = f"from train.models.language_model import load_language_config as load; load({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], input="y\n" * 3, capture_output=True, text=True, timeout=100)
    assert "custom code" in done.stderr.strip().splitlines()[-1]
    assert "[y/N]" not in done.stdout
    assert not (tmp_path / "ran").exists()


def test_tokenizers_that_do_not_fit_their_model(small_mbart: Path, small_mt5: Path, tmp_path: Path) -> None:
    def mixed(name: str, model: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
        folder = Path(shutil.copytree(model, tmp_path / name, ignore=shutil.ignore_patterns("tokenizer*")))
        tokenizer.save_pretrained(folder)
        return folder

    more = train_tokenizer([*LINES, "größere wörter über wolken"], 300, "de_DE")
    fewer = train_tokenizer(LINES[:1], 40, "de_DE")
    for name, model, tokenizer, says in (
        ("more", small_mbart, more, "a tokenizer of at most"),
        ("fewer", small_mbart, fewer, "a tokenizer of .* pieces, found"),
        ("t5", small_mbart, load_tokenizer(small_mt5), "pad_token_id 1 in the tokenizer, .* found 0"),
        ("mbart", small_mt5, fewer, "pad_token_id 0 in the tokenizer, .* found 1"),
    ):
        with pytest.raises(InputError, match=says):
            load_language_model(mixed(name, model, tokenizer), "de_DE")
    later = MBart50Tokenizer(src_lang="de_DE", tgt_lang="de_DE")
    changed(small_mbart, tmp_path / "fifty", vocab_size=len(later))
    with pytest.raises(InputError, match=r"mBART-cc25's tokenizer, .* found MBart50Tokenizer"):
        load_language_model(mixed("mbart50", tmp_path / "fifty", later), "de_DE", pretrained=False)


def test_a_language_without_a_code_is_refused_before_training(small_mbart: Path, small_mt5: Path) -> None:
    with pytest.raises(InputError, match=r"a language code that the tokenizer has, found 'de'.* de_DE"):
        load_language_model(small_mbart, "de")
    load_language_model(small_mt5, "de")  # mT5 has no codes: any language will do


def test_chinese_punctuation_is_known(mbart_whole: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    """mBART's pieces were made of normalised text, with ASCII commas for full-width ones."""
    tokens = mbart_whole[1].tokenize("今天下午，我们去医院！")
    assert tokens == ["▁今天", "下午", ",", "我们", "去", "医院", "!"]


def test_sentencepiece_alone_makes_the_same_tokenizer(tmp_path: Path) -> None:
    """A folder with sentencepiece.bpe.model and no tokenizer.json has mBART's ids and normalises alike."""
    import sentencepiece

    model = tmp_path / "sentencepiece.bpe"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 9), model_prefix=str(model), vocab_size=40, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mbart"}))
    tokenizer = load_tokenizer(tmp_path, "de_DE")
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3]) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert tokenizer.mask_token_id == len(tokenizer) - 1
    theirs = sentencepiece.SentencePieceProcessor(model_file=f"{model}.model")
    for text in (*LINES, "ｅｓ regnet ﬁn"):
        assert tokenizer.tokenize(text) == theirs.encode(text, out_type=str)
