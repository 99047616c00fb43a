"""Attend kernels over caches in pages: keys and values are read where they lie."""

from __future__ import annotations

import pytest
import torch

from onelaunch.targets.cpu.emit import source
from onelaunch.transform.split import split_node
from tests.cpu.codegen_run import launch
from tests.cpu.codegen_run import one_kernel
from tests.cpu.codegen_run import run
from tests.cpu.paged import LAYOUTS
from tests.cpu.paged import Paged
from tests.cpu.test_codegen_attend import close

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("lengths", "page", "size", "dtype"),
    [
        ([178], 16, 64, torch.bfloat16), ([65, 0, 5, 96], 32, 16, torch.float16), ([130, 48], 48, 80, torch.float32),
        ([9, 20], 4, 20, torch.bfloat16), ([7, 3], 1, 16, torch.float32),
    ],
)  # fmt: skip
def test_pages(layout, lengths, page, size, dtype):
    s = Paged(lengths, size=size, page=page, layout=layout, dtype=dtype)
    program = s.program()
    assert "const Pages cache" in source(program)
    launch(program, s.tensors, ())
    close(s.out, s.want(), LIMITS[dtype])


def test_a_window_that_begins_inside_a_page():
    s = Paged([150, 9, 0], window=37, dtype=torch.float32)
    launch(s.program(), s.tensors, ())
    close(s.out, s.want())


@pytest.mark.parametrize("page", [16, 48])
@pytest.mark.parametrize("length", [0, 1, 64, 65, 200])
def test_parts(length, page):
    s = Paged([length], page=page, dtype=torch.float32, pages=14)
    merge, unfinished = split_node(s.node(), 3)
    tensors = {**s.tensors, unfinished.out.name: torch.full((6, 3, 18), 77.0)}
    parts = run(unfinished.nest, tensors, (3, 1))
    close(run(merge.nest, {"paged_attend": s.out, unfinished.out.name: parts})[0], s.want()[0])


def test_where_blocks_lie_changes_no_bit():
    results = []
    for order in ([3, 1, 4, 2], [1, 2, 3, 4]):
        s = Paged([64], dtype=torch.float32)
        pages = s.cache[1:].clone()
        s.cache[torch.tensor(order)], s.table[0, :4] = pages, torch.tensor(order, dtype=torch.int32)
        launch(s.program(), s.tensors, ())
        results.append(s.out.clone())
    assert torch.equal(*results)


@pytest.mark.parametrize("block", [-1, 5])
def test_a_block_that_is_not_there(block):
    s = Paged([20, 30], dtype=torch.float32)
    assert len(s.cache) == 5
    s.table[1, 1] = block
    with pytest.raises(IndexError):
        launch(s.program(), s.tensors, ())


def test_a_part_of_the_values_in_the_plain_form():
    s = Paged([20, 0], dtype=torch.float32)
    program = one_kernel(s.node().nest, s.tensors, (1, 3, 8))
    assert "Pages" not in source(program)
    launch(program, s.tensors, ())
    close(s.out, s.want())
