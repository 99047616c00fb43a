"""Caches in pages: slots, tables and lengths are data; rows that only pad a batch store nothing and give zeros."""

from __future__ import annotations

import math

import pytest
import torch

import onelaunch
from onelaunch.frontend.paged_op import paged_attend
from onelaunch.frontend.paged_op import paged_store
from tests.lowering.compiled import compare
from tests.lowering.compiled import compiled
from tests.lowering.compiled import copies

BLOCKS, PAGE, HEADS, KV, SIZE = 13, 4, 6, 2, 8
SCALE = 0.3


def step(window: int = 0, softcap: float = 0.0):
    """One layer's cache: keys and values side by side in a row."""

    def run(x, q, cache, slots, table, lengths):
        new = torch.cat([x[:, : KV * SIZE].view(-1, KV, SIZE), x[:, KV * SIZE :].view(-1, KV, SIZE)], -1) * 2
        cache.copy_(paged_store(cache, slots, new.to(cache.dtype)))
        made = paged_attend(q * 0.5, cache[..., :SIZE], cache[..., SIZE:], table, lengths, SCALE, window, softcap)
        return made.flatten(1) * 3

    return run


def inputs(lengths: list[int], dtype: torch.dtype = torch.float32, pages: int = 5) -> list[torch.Tensor]:
    """Blocks in no order; a length of 0 is a row that pads: slot -1, table of zeros."""
    generator = torch.Generator().manual_seed(5 + len(lengths))
    order = iter((torch.randperm(BLOCKS - 1, generator=generator) + 1).tolist())
    table = torch.zeros(len(lengths), pages, dtype=torch.int32)
    slots = torch.full((len(lengths),), -1)
    for b, length in enumerate(lengths):
        for m in range(-(-length // PAGE)):
            table[b, m] = next(order)
        if length:
            slots[b] = table[b, (length - 1) // PAGE] * PAGE + (length - 1) % PAGE
    n = len(lengths)
    make = lambda *shape: torch.randn(*shape, generator=generator).to(dtype)  # noqa: E731
    cache = make(BLOCKS, KV, PAGE, 2 * SIZE).transpose(1, 2)
    return [make(n, 2 * KV * SIZE), make(n, HEADS, SIZE), cache, slots, table, torch.tensor(lengths, dtype=torch.int32)]


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize(("window", "softcap"), [(0, 0.0), (5, 0.0), (0, 2.5)])
def test_one_token_a_sequence(target: str, window: int, softcap: float) -> None:
    function = step(window, softcap)
    for lengths in ([1], [5, 0, 17], [20, 4, 8, 0]):
        args = inputs(lengths)
        ours, theirs = copies(args), copies(args)
        found = compiled(function, target)(*ours)
        compare((found, ours), (function(*theirs), theirs))
        assert all(not found[b].any() for b, length in enumerate(lengths) if not length)
        torch.testing.assert_close(ours[2][0], args[2][0])  # block 0, where the rows that pad point


def test_one_program_for_every_batch() -> None:
    function = step()
    whole = inputs([9, 3, 12, 1])
    for i in (0, 1, 3, 4, 5):
        torch._dynamo.mark_dynamic(whole[i], 0)
    run = compiled(function, "cpu", dynamic=None)
    for lengths in ([9, 3, 12, 1], [2, 7], [16, 0, 5]):
        args = inputs(lengths)
        ours, theirs = copies(args), copies(args)
        if len(lengths) == 4:
            ours = whole
            theirs = copies(whole)
        compare((run(*ours), ours), (function(*theirs), theirs))


def test_a_wrong_block_is_seen() -> None:
    """The positive control: a table entry that is off gives another result."""
    args = inputs([9, 3])
    wanted = step()(*copies(args))
    args[4][0, 1] = (args[4][0, 1] + 1) % BLOCKS
    found = compiled(step(), "cpu")(*copies(args))
    assert (found[0] - wanted[0]).abs().max() > 1e-2
    torch.testing.assert_close(found[1], wanted[1], rtol=2e-5, atol=2e-5)


def test_a_block_out_of_bounds_is_refused() -> None:
    args = inputs([9, 3])
    args[4][1, 0] = BLOCKS
    with pytest.raises(Exception, match=r"out of bounds|outside"):
        compiled(step(), "cpu")(*copies(args))


def test_what_attention_accepts() -> None:
    args = inputs([3])
    cache = args[2]
    with pytest.raises(Exception, match="6 query heads over 4"):
        torch.ops.onelaunch.paged_attend(
            args[1].to("meta"), *(torch.empty(3, 4, 4, 8, device="meta"),) * 2, args[4].to("meta"), args[5].to("meta"),
            1.0, 0, 0.0,
        )  # fmt: skip
    assert cache.shape == (BLOCKS, PAGE, KV, 2 * SIZE)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_cache_is_never_copied(layers: int) -> None:
    """It may hold most of a machine's memory. Two layers may also keep theirs in one."""

    def run(x, q, cache, slots, table, lengths):
        made = q.flatten(1)
        for layer in range(layers):
            new = (x + layer).view(-1, KV, 2 * SIZE)
            cache.copy_(paged_store(cache, slots + layer, new))
            keys, values = cache[..., :SIZE], cache[..., SIZE:]
            made = made + paged_attend(q, keys, values, table, lengths, SCALE, 0, 0.0).flatten(1)
        return made

    args = inputs([9, 3])
    compare(compiled(run, "cpu")(*copies(args)), run(*copies(args)))
    with torch.no_grad():
        (program,) = onelaunch.explain(run, *copies(args), options={"target": "cpu", "cache": False}).programs
    size = args[2].numel()
    large = [b.name for b in program.buffers if math.prod(e.value for e in b.shape) >= size]
    assert len(large) == 1, large
    assert program.workspace < 4 * size
