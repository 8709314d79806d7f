"""Trimming on mBART's real vocabulary: the same pieces, the same scores, the same translations, fewer rows."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from extract.errors import InputError
from tests.train.conftest import LINES
from train.data.targets import encode_targets, pad_labels
from train.models.language_model import count_parameters, load_language_model, set_language
from train.models.tokenizer import load_tokenizer
from train.models.translator import SignTranslator
from train.models.vocabulary_trimming import read_kept, trim_model, trim_tokenizer
from train.settings import AdapterSettings

TEXTS = {
    "de_DE": ["am tag regnet es im norden stark", "morgen früh minus elf grad – „kalt“ … ½", "orkanböen an der küste"],
    "en_XX": ["Today I'm going to show you, step by step, how to paint.", "It's 10 o'clock: don't worry!"],
    "zh_CN": ["今天下午，我们去医院。", "你什么时候回家？", "他的爸爸是老师，妈妈是医生。"],
}


def taught(full: PreTrainedModel, kept: list[int], batch: dict[str, torch.Tensor]) -> SignTranslator:
    """A translator that has learnt the batch by heart, on the trimmed model for speed; ``full`` gets its weights."""
    torch.manual_seed(4)
    model = SignTranslator.compose(trim_model(copy.deepcopy(full), kept), AdapterSettings(), 12)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    learnt = model.language_model.state_dict()
    with torch.no_grad():
        for name, value in full.state_dict().items():
            if len(value) == 250_027:
                value[torch.tensor(kept)] = learnt[name]
            elif "final_logits_bias" not in name:
                value.copy_(learnt[name])
    return model.eval()


@pytest.mark.long
@pytest.mark.parametrize("language", TEXTS)
def test_trimmed_and_full_give_the_same(
    mbart_whole: tuple[PreTrainedModel, PreTrainedTokenizerBase], language: str, tmp_path: Path
) -> None:
    """Loss and beam search of the trimmed model are those of the full one that gives left out pieces no probability."""
    full, tokenizer = copy.deepcopy(mbart_whole[0]), mbart_whole[1]
    tokenizer.tgt_lang = language
    set_language(full, tokenizer, language)
    texts = TEXTS[language]
    trimmed, kept = trim_tokenizer(tokenizer, texts, [full.config], tmp_path / "t", language)
    assert len(trimmed) == len(kept) < 300
    lengths = torch.arange(len(texts)) + 4
    features = torch.randn(int(lengths.sum()), 12, generator=torch.Generator().manual_seed(3))
    batch = {"lengths": lengths, "features": features}
    learnt = taught(full, kept, {"labels": pad_labels(encode_targets(trimmed, texts)), **batch})
    small = trim_model(copy.deepcopy(full), kept)
    assert small.config.vocab_size == len(kept)
    assert small.get_input_embeddings().weight.data_ptr() == small.get_output_embeddings().weight.data_ptr()

    left_out = torch.ones(250_027, dtype=torch.bool)
    left_out[torch.tensor(kept)] = False
    full.final_logits_bias[:, left_out] = -1e9
    outputs, hypotheses, scores = [], [], []
    for model, pieces in ((full, tokenizer), (small, trimmed)):
        translator = SignTranslator.compose(model, AdapterSettings(), 12).eval()
        translator.adapter.load_state_dict(learnt.adapter.state_dict())
        with torch.no_grad():
            outputs.append(translator(labels=pad_labels(encode_targets(pieces, texts)), **batch))
        found = translator.generate(
            **batch, num_beams=5, max_new_tokens=40, return_dict_in_generate=True, output_scores=True
        )
        assert set(found.sequences[:, 0].tolist()) == {pieces.convert_tokens_to_ids(language)}
        hypotheses.append(pieces.batch_decode(found.sequences, skip_special_tokens=True))
        scores.append(found.sequences_scores)
    assert abs(outputs[0].loss - outputs[1].loss) <= 1e-5
    torch.testing.assert_close(outputs[1].logits, outputs[0].logits[..., kept], atol=1e-5, rtol=0)
    assert hypotheses[0] == hypotheses[1]
    assert hypotheses[0] == [tokenizer.decode(ids[:-2]) for ids in encode_targets(tokenizer, texts)]
    torch.testing.assert_close(scores[1], scores[0], atol=1e-5, rtol=0)

    translator.save_pretrained(tmp_path / "saved")
    trimmed.save_pretrained(tmp_path / "saved")
    again = SignTranslator.from_pretrained(tmp_path / "saved").eval()
    reloaded = load_tokenizer(tmp_path / "saved", language)
    sequences = again.generate(**batch, num_beams=5, max_new_tokens=40)
    assert reloaded.batch_decode(sequences, skip_special_tokens=True) == hypotheses[0]
    assert encode_targets(reloaded, texts) == encode_targets(trimmed, texts)


def test_other_text_of_kept_pieces_is_read_alike(
    mbart_whole: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    """Also where pieces overlap, where a letter is unknown to both, and where only its letters are known."""
    model, tokenizer = mbart_whole
    texts = [text for language in TEXTS.values() for text in language] + ["𒀀x 𒀀"]
    trimmed, kept = trim_tokenizer(tokenizer, texts, [model.config], tmp_path)
    known = set(kept)
    rng = np.random.default_rng(0)
    letters = sorted({letter for text in texts for letter in text})
    others = ["".join(rng.choice(letters, rng.integers(1, 9))) for _ in range(3000)]
    others += ["".join(rng.choice(text.split(), 3)) for text in texts for _ in range(20)]
    covered = 0
    for text, before, after in zip(
        others, *(t(others, add_special_tokens=False)["input_ids"] for t in (tokenizer, trimmed)), strict=True
    ):
        if known.issuperset(before):
            assert [kept[id] for id in after] == before, text
            covered += 1
        if "𒀀" not in text:
            assert trimmed.unk_token_id not in after, text
            assert trimmed.decode(after) == tokenizer.decode(before)
    assert covered > 500


def test_special_ids_of_the_configurations_become_the_new_ones(
    mbart_whole: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    model, tokenizer = copy.deepcopy(mbart_whole[0]), mbart_whole[1]
    zh, en, ro = (tokenizer.convert_tokens_to_ids(code) for code in ("zh_CN", "en_XX", "ro_RO"))
    unused, used = tokenizer.convert_tokens_to_ids(["▁Montag", "▁es"])
    model.generation_config.forced_bos_token_id = zh
    model.generation_config.suppress_tokens = [unused, used, tokenizer.mask_token_id]
    model.generation_config.bad_words_ids = [[used, zh], [used, unused]]
    model.generation_config.eos_token_id = [2, en]
    trimmed, kept = trim_tokenizer(tokenizer, LINES, [model.config, model.generation_config], tmp_path)
    trim_model(model, kept)
    new = trimmed.convert_tokens_to_ids
    assert model.config.decoder_start_token_id == model.generation_config.decoder_start_token_id == new("en_XX")
    assert (model.config.bos_token_id, model.config.pad_token_id, model.config.eos_token_id) == (0, 1, 2)
    assert model.config.forced_eos_token_id == 2
    assert model.config.task_specific_params["translation_en_to_ro"]["decoder_start_token_id"] == new("ro_RO") < ro
    assert model.generation_config.forced_bos_token_id == new("zh_CN")
    assert model.generation_config.eos_token_id == [2, new("en_XX")]
    assert model.generation_config.suppress_tokens == [new("▁es"), trimmed.mask_token_id]
    assert model.generation_config.bad_words_ids == [[new("▁es"), new("zh_CN")]]
    assert trimmed.mask_token_id == len(trimmed) - 1
    assert model.get_input_embeddings().padding_idx == 1
    assert model.final_logits_bias.shape == (1, len(trimmed))
    assert read_kept(tmp_path) == kept
    assert count_parameters(mbart_whole[0].config, len(kept)) == model.num_parameters()
    assert count_parameters(mbart_whole[0].config) == mbart_whole[0].num_parameters()


@torch.no_grad()
def test_mt5_keeps_its_sentinels_and_loses_rows_without_pieces(small_mt5: Path, tmp_path: Path) -> None:
    model, tokenizer = load_language_model(small_mt5, "de_DE")
    rows = model.get_input_embeddings().num_embeddings
    assert rows > len(tokenizer)
    trimmed, kept = trim_tokenizer(tokenizer, LINES[:2], [model.config], tmp_path / "t")
    small = trim_model(copy.deepcopy(model), kept)
    assert len(trimmed) == len(kept) == small.config.vocab_size < len(tokenizer)
    assert {f"<extra_id_{n}>" for n in range(10)} <= trimmed.get_vocab().keys()
    assert (small.config.pad_token_id, small.config.eos_token_id, small.config.decoder_start_token_id) == (0, 1, 0)
    small.save_pretrained(tmp_path / "t")
    again, reloaded = load_language_model(tmp_path / "t", "de_DE")
    labels = [pad_labels(encode_targets(t, LINES[:2])) for t in (tokenizer, reloaded)]
    before = model(input_ids=labels[0].clamp(min=0), labels=labels[0]).logits[..., kept]
    after = again(input_ids=labels[1].clamp(min=0), labels=labels[1]).logits
    shown = labels[0] >= 0  # what fills up is no padding piece here
    torch.testing.assert_close(after[shown], before[shown], atol=1e-5, rtol=0)
    left_out = sorted(set(range(rows)) - set(kept))
    found = [
        m.generate(input_ids=ids.clamp(min=0), num_beams=5, max_new_tokens=6, suppress_tokens=suppressed)
        for m, ids, suppressed in ((model, labels[0], left_out), (again, labels[1], None))
    ]
    assert tokenizer.batch_decode(found[0]) == reloaded.batch_decode(found[1])


def test_what_cannot_be_trimmed(small_mbart: Path, small_mt5: Path, tmp_path: Path) -> None:
    pairs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])))
    config = AutoConfig.from_pretrained(small_mbart)
    with pytest.raises(InputError, match="a unigram model, as mBART and T5 have, found BPE"):
        trim_tokenizer(pairs, ["ab"], [config], tmp_path / "a")
    model, tokenizer = load_language_model(small_mbart, "de_DE")
    config.decoder_start_token_id = 250_004
    with pytest.raises(InputError, match=f"special ids below {len(tokenizer)}, the pieces, found 250004"):
        trim_tokenizer(tokenizer, LINES, [config], tmp_path / "b")
    with pytest.raises(InputError, match="at least 251 word embeddings"):
        trim_model(model, [0, 1, 2, 3, 250])
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_trimming_again_changes_nothing(small_mbart: Path, tmp_path: Path) -> None:
    model, tokenizer = load_language_model(small_mbart, "de_DE")
    once, kept = trim_tokenizer(tokenizer, LINES[:2], [model.config], tmp_path / "a", "de_DE")
    assert len(once) < len(tokenizer)
    trim_model(model, kept)
    twice, again = trim_tokenizer(once, LINES[:2], [model.config], tmp_path / "b", "de_DE")
    assert again == list(range(len(once)))
    assert twice.get_vocab() == once.get_vocab()
    assert json.loads((tmp_path / "b/kept.json").read_text())["pieces"] == len(once)
