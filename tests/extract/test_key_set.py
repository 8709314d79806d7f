"""Sets of clips in 16 bytes each, beside a plain Python set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extract import key_set
from extract.key_set import KeySet, key

# Few names and few bytes, so that equal ones are common; NUL bytes, which NumPy strips from the ends of its strings.
NAMES = st.text(st.sampled_from('ab/,"\\\0ü\ud800'), max_size=3)
KEYS = st.binary(min_size=16, max_size=16) | st.sampled_from(
    [bytes(16), bytes(15) + b"\1", b"\1" + bytes(15), b"\1" * 15 + b"\0", b"\xff" * 16, b"\x80" + bytes(15)]
)


@given(st.lists(st.lists(KEYS, max_size=20), max_size=20), st.lists(KEYS, max_size=20), st.integers(0, 30))
def test_as_a_plain_set(batches, others, recent):
    found, plain = KeySet(), set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_set, "_RECENT", recent)  # so that some of them are sorted into the array and some are not
        for batch in batches:
            expected = [one not in plain and one not in batch[:position] for position, one in enumerate(batch)]
            assert found.add(batch) == expected
            plain.update(batch)
            assert len(found) == len(plain)
            assert found.has([*batch, *others]) == [one in plain for one in [*batch, *others]]
        assert found.digest() == found.digest()
        assert found.has([*plain, *others]) == [one in plain for one in [*plain, *others]]
        assert len(found) == len(plain)


@given(st.sets(KEYS, max_size=30), st.sets(KEYS, max_size=30), st.randoms())
def test_equal_sets_have_equal_digests_and_others_have_not(some, others, random):
    def digest(ordered):
        found = KeySet()
        for one in ordered:
            found.add([one])
        return found.digest()

    shuffled = list(some)
    random.shuffle(shuffled)
    assert digest(some) == digest(shuffled)
    assert (digest(some) == digest(others)) == (some == others)


@given(st.lists(st.tuples(NAMES, NAMES) | st.tuples(NAMES), min_size=2, max_size=2))
def test_other_names_have_another_key(both):
    one, other = both
    assert (key(*one) == key(*other)) == (one == other)
    assert len(key(*one)) == 16


def test_what_is_sorted_away_is_still_found():
    many = [key(str(number)) for number in range(key_set._RECENT + 10)]
    found = KeySet()
    assert all(found.add(many))
    assert not found._recent
    assert all(found.has(many))
    assert not any(found.add(many))
    assert not any(found.has([key(str(-number)) for number in range(1, 1000)]))
