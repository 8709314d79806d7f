"""What a name from a file can do to a terminal: nothing."""

import pytest

from extract.errors import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Wörter 你好 😀", "Wörter 你好 😀"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\tc\x07", "a\\rb\\tc\\x07"),
        ("abc\u202egpj.exe", "abc\\u202egpj.exe"),
        ("\udcfc", "\\udcfc"),
    ],
)
def test_only_what_is_printed_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
