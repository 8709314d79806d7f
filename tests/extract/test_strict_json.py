"""What Python's reader of JSON lets pass, and no table may hold."""

import json

import pytest

from extract.strict_json import strict_json, twice


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"text": NaN}', "NaN is not JSON"),
        ("[1, -Infinity]", "-Infinity is not JSON"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' stands twice"),
        (r'{"text": "lovely \ud83c"}', "half a surrogate pair"),
        (r'{"\uDC00": 1}', "half a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        ("{'a': 1}", "double quotes"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        strict_json(text)


def test_what_is_read() -> None:
    value = {"text": "😀 NaN \\ud83c", "n": [1, 2.5, None, True]}
    assert strict_json(json.dumps(value)) == strict_json(json.dumps(value, ensure_ascii=False)) == value
    assert (twice(["a", "b"]), twice(["a", "b", "c", "b"])) == (None, "b")
