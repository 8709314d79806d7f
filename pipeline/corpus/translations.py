"""The meanings of the built-in corpus in Chinese and in English, for the layouts of CSL-Daily and How2Sign."""

from __future__ import annotations

import numpy as np

from pipeline.corpus.grammar import Meaning
from pipeline.corpus.lexicon import INTENSITIES, PHENOMENA, REGIONS, TIMES

_CHINESE = dict(
    zip(
        (*PHENOMENA, *INTENSITIES, *TIMES, *REGIONS),
        (
            "下雨", "下雪", "出太阳", "多云", "有雾", "打雷", "刮风", "有暴风", "结冰",
            "有阵雨", "下冰雹", "干燥", "暖和", "寒冷", "路滑", "晴朗", "化雪",
            "非常", "稍微", "局部", "很快",
            "今天", "明天", "后天", "夜里", "晚上", "周末",
            "星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日",
            "北方", "南方", "西部", "东部", "中部", "沿海", "山区", "河边", "高原",
        ),
        strict=True,
    )
)  # fmt: skip
_ENGLISH = dict(
    zip(
        (*PHENOMENA, *INTENSITIES, *TIMES, *REGIONS),
        (
            "rain", "snow", "sunshine", "clouds", "fog", "thunder", "wind", "storms", "frost",
            "showers", "hail", "dry air", "warm air", "cold air", "icy roads", "clear skies", "a thaw",
            "a lot of", "a little", "patches of", "soon some",
            "today", "tomorrow", "in two days", "tonight", "this evening", "at the weekend",
            "on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "on Saturday", "on Sunday",
            "in the north", "in the south", "in the west", "in the east", "in the middle", "on the coast",
            "in the mountains", "on the Rhine", "in the Alps",
        ),
        strict=True,
    )
)  # fmt: skip
_DIGITS = "零一二三四五六七八九"
QUOTE_RATE = 0.2
"""How often an English sentence holds quotation marks, at its beginning or inside."""


def chinese(meaning: Meaning, rng: np.random.Generator) -> str:
    """A Chinese sentence with its full stop, without spaces."""
    said = [_CHINESE[part] for part in (meaning.time, meaning.region) if part]
    if meaning.degrees is None:
        said += ["会", _CHINESE[meaning.intensity] if meaning.intensity else "", _CHINESE[str(meaning.phenomenon)]]
    else:
        tens, ones = divmod(abs(meaning.degrees), 10)
        number = (("" if tens == 1 else _DIGITS[tens]) + "十" if tens else "") + (_DIGITS[ones] if ones else "")
        said += ["气温", "零下" if meaning.degrees < 0 else "", number, "度"]
    return "".join(said) + "。"


def english(meaning: Meaning, rng: np.random.Generator) -> str:
    """An English sentence, cased and punctuated; some hold quotation marks."""
    when = " ".join(_ENGLISH[part] for part in (meaning.time, meaning.region) if part)
    if meaning.degrees is None:
        what = " ".join(_ENGLISH[part] for part in (meaning.intensity, meaning.phenomenon) if part)
    else:
        degrees = "one degree" if abs(meaning.degrees) == 1 else f"{abs(meaning.degrees)} degrees"
        what = f"{degrees} below zero" if meaning.degrees < 0 else degrees
    text = f"Expect {what} {when}".strip() + "."
    style = rng.random()
    if style < QUOTE_RATE / 2:
        return f'"{text}"'
    return f'They say "{text[:-1]}", I hear.' if style < QUOTE_RATE else text
