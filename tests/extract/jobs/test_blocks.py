"""How clips are packed into blocks."""

from hypothesis import given
from hypothesis import strategies as st

from extract.dataset.clip_index import Clip
from extract.jobs.blocks import Block, plan_blocks
from extract.settings import View


def plainly(clips):
    return ((clip, (View(),)) for clip in clips)


def clip(id: str, n_frames: int = 40) -> Clip:
    return Clip(id, "train", id, n_frames, 25.0, "", "de_DE")


@given(
    frames=st.lists(st.integers(0, 500), max_size=30),
    keep_every=st.integers(1, 8),
    block_frames=st.integers(1, 300),
)
def test_every_clip_is_in_one_block(frames, keep_every, block_frames):
    clips = [clip(str(i), n) for i, n in enumerate(frames)]
    blocks = list(plan_blocks(plainly(clips), keep_every, block_frames))
    assert [one for block in blocks for one in block.clips] == clips
    assert len({block.id for block in blocks}) == len(blocks)

    def sampled(clips):
        return sum(-(-(one.n_frames or 120) // keep_every) for one in clips)

    for block in blocks:
        assert sampled(block.clips[:-1]) < block_frames
    for block in blocks[:-1]:
        assert sampled(block.clips) >= block_frames


def test_an_id_comes_from_the_contents():
    clips = [clip("a"), clip("b"), clip("c")]
    first, second = plan_blocks(plainly(clips), 4, 20)
    assert [c.id for c in first.clips] == ["a", "b"]
    assert Block.of(clips[:2]) == first
    (resumed,) = plan_blocks(plainly(clips[2:]), 4, 20)
    assert resumed == second
    assert resumed.id != first.id
    assert len(first.id) == 32


def test_planning_is_lazy():
    def endless():
        number = 0
        while True:
            yield clip(str(number))
            number += 1

    blocks = plan_blocks(plainly(endless()), 4, 100)
    assert len(next(blocks).clips) == 10
    assert next(blocks).clips[0].id == "10"


def test_clips_that_lack_other_views_go_into_other_blocks():
    both, one = (View(), View(phase=1)), (View(phase=1),)
    wanted = [(clip("a"), both), (clip("b"), both), (clip("c"), one), (clip("d"), both)]
    blocks = list(plan_blocks(wanted, 4, 1000))
    assert [[c.id for c in block.clips] for block in blocks] == [["a", "b"], ["c"], ["d"]]
    assert [block.views for block in blocks] == [both, one, both]
    assert Block.of([clip("a")], one).id != Block.of([clip("a")], both).id
    assert blocks[0].halves()[0].views == both
    (smaller, _) = plan_blocks(wanted[:2], 4, 20)  # twice the frames a clip
    assert [c.id for c in smaller.clips] == ["a"]


def test_blocks_become_smaller_towards_the_end_and_are_never_tiny():
    clips = [clip(str(i)) for i in range(200)]  # ten frames each
    left = iter(range(200, -1, -1))
    counted = ((one, (View(),)) for one in clips if next(left) >= 0)
    remaining = 200

    def fair_share(frames):
        assert frames in (10, 30)  # as typical, before a clip was seen
        return remaining * frames / 8

    sizes = []
    for block in plan_blocks(counted, 4, 400, fair_share):
        sizes.append(len(block.clips))
        remaining -= len(block.clips)
    assert remaining == 0
    assert sizes[0] == 40
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert sizes[-2] == 4  # 32 frames at least


def test_halves_divide_down_to_single_clips():
    block = Block.of([clip("a"), clip("b"), clip("c")])
    left, right = block.halves()
    assert [c.id for c in left.clips] == ["a"]
    assert [c.id for c in right.clips] == ["b", "c"]
    assert len({block.id, left.id, right.id}) == 3
