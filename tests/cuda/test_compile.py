"""Generated kernels compiled by NVRTC, on any machine that has it: they fit, and nothing is spilled."""

from __future__ import annotations

import re

import pytest
import torch

from onelaunch.errors import CompilerError
from onelaunch.graph.dtype import from_torch
from onelaunch.program.program import Program
from onelaunch.targets.cuda import compiler
from onelaunch.targets.cuda.architecture import ARCHITECTURES
from onelaunch.targets.cuda.architecture import TESTED
from onelaunch.targets.cuda.emit import generate
from tests import programs as P
from tests.cpu.codegen_run import one_kernel
from tests.cpu.paged import Paged
from tests.cpu.test_codegen_attend import Setup
from tests.cpu.test_codegen_linear import nest_of
from tests.cpu.test_codegen_linear import tensors_of

pytestmark = pytest.mark.usefixtures("nvrtc")
REGISTERS = 168  # of a thread at the start: twelve warps on four schedulers of 16,384 registers
SPILLED = 16  # bytes of a thread that one kernel may keep in memory


def said_of(text: str, architecture: str = TESTED.name) -> str:
    """What ptxas says of a source. With CUDA 13.0, now and then, nothing: then it is asked again."""
    for _ in range(4):
        _, log = compiler.compile_source(text, architecture)
        if "registers" in log:
            return log
    pytest.skip("ptxas has said nothing four times")


def fits(program: Program, architecture=TESTED, most: int = SPILLED) -> None:
    """It compiles for the architecture within its limits; no thread keeps more than ``most`` bytes in memory."""
    made = generate(program, architecture)
    log = said_of(made.text(), architecture.name)
    assert int(re.search(r"Used (\d+) registers", log)[1]) <= REGISTERS
    spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert spilled and all(int(stores) <= most for stores, _ in spilled), log
    shape = made.shape
    assert shape.shared_bytes <= architecture.shared


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
@pytest.mark.parametrize("name", ["mlp", "attention", "embed"])
def test_programs(name, architecture):
    fits(getattr(P, name)(), architecture)


def product(tokens: int, dtype: torch.dtype) -> Program:
    w = torch.zeros(640, 2048, dtype=dtype)
    nest = nest_of(tokens, 640, 2048, from_torch(dtype), from_torch(dtype))
    return one_kernel(nest, tensors_of(tokens, 640, 2048, dtype, w), (0, 128), weights=("w",))


def attention(heads: int, groups: int, size: int) -> Program:
    s = Setup(heads, groups, size, 300, torch.bfloat16)
    return one_kernel(s.nest(scan=s.seen), s.tensors, (heads // groups,))


@pytest.mark.parametrize("tokens", [1, 8, 32])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_products(tokens, dtype):
    plain = dtype is torch.float32 and tokens == 32  # its sums alone are 32 registers beside as many inputs
    fits(product(tokens, dtype), most=128 if plain else SPILLED)


@pytest.mark.parametrize("tile", [128, 24, 8, 88])
def test_a_product_with_columns(tile):
    w = torch.zeros(2048, 528, dtype=torch.float16)
    nest = nest_of(8, 528, 2048, from_torch(w.dtype), from_torch(w.dtype), lambda j, r: (r, j))
    fits(one_kernel(nest, tensors_of(8, 528, 2048, w.dtype, w), (0, tile), weights=("w",)))


@pytest.mark.parametrize(("heads", "groups", "size"), [(9, 3, 64), (32, 8, 128), (8, 1, 256), (8, 2, 80)])
def test_attention(heads, groups, size):
    fits(attention(heads, groups, size))


@pytest.mark.parametrize(
    ("heads", "groups", "size", "page", "dtype"),
    [
        (9, 3, 64, 16, torch.bfloat16), (32, 8, 128, 16, torch.float16), (8, 1, 256, 32, torch.bfloat16),
        (8, 2, 80, 48, torch.float16), (4, 2, 128, 16, torch.float32),
    ],
)  # fmt: skip
def test_attention_over_pages(heads, groups, size, page, dtype):
    program = Paged([300], heads, groups, size, page, dtype=dtype).program()
    assert "const Pages cache" in generate(program).text()
    fits(program)


@pytest.mark.parametrize("architecture", ARCHITECTURES[1:], ids=lambda a: a.name)
@pytest.mark.parametrize("program", [product(1, torch.bfloat16), attention(9, 3, 64)], ids=["product", "attention"])
def test_architectures_that_programs_never_ran_on(program, architecture):
    fits(program, architecture)


def test_a_refused_source(tmp_path):
    with pytest.raises(CompilerError, match=r"NVRTC refused the generated source: .*error"):
        compiler.build("this is no C++", tmp_path)
    assert not list(tmp_path.iterdir())


def test_sources_are_compiled_in_the_background(tmp_path):
    """Several at once, and what fails says so where it is waited for."""
    texts = [f'extern "C" __global__ void f{n}() {{}}' for n in range(3)]
    begun = [compiler.begin(text) for text in (*texts, "this is no C++")]
    for n, (text, end) in enumerate(zip(texts, begun, strict=False)):
        folder = tmp_path / str(n)
        folder.mkdir()
        assert compiler.build(text, folder, begun=end) == compiler.compile_source(text)[0]
        assert compiler.build(text, folder)[:4] == b"\x7fELF"
    with pytest.raises(CompilerError, match="NVRTC refused the generated source"):
        compiler.build("this is no C++", tmp_path, begun=begun[3])


def test_a_binary_is_reused(tmp_path):
    text = 'extern "C" __global__ void f() {}'
    first = compiler.build(text, tmp_path)
    (tmp_path / compiler.BINARY).write_bytes(b"found")
    assert compiler.build(text, tmp_path) == b"found"
    assert compiler.build(f"{text}\n", tmp_path)[:4] == first[:4] == b"\x7fELF"
