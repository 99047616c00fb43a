"""Whole decode steps compiled by NVRTC, on any machine that has it: all kernels of a model fit together."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from onelaunch.errors import CompilerError
from onelaunch.program.program import Program
from onelaunch.targets.cpu.target import CpuTarget
from onelaunch.targets.cuda.architecture import ARCHITECTURES
from onelaunch.targets.cuda.architecture import TESTED
from onelaunch.targets.cuda.architecture import Architecture
from onelaunch.targets.cuda.emit import generate
from tests.cuda.test_compile import fits
from tests.support import steps
from tests.support.configurations import BY_NAME
from tests.support.configurations import Configuration

pytestmark = pytest.mark.usefixtures("nvrtc")
_, BLACKWELL, CONSUMER = ARCHITECTURES
# What kernels compute from a thread's number alone, the compiler computes once for all of a program's kernels, and
# keeps: each of them by itself needs no memory for that.
SPILLED = 768
LAYER = {"num_hidden_layers": 1, "max_position_embeddings": 512}
SHAPES = {
    "576": Configuration("576", "llama", LAYER | {
        "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
    }),
    "2048": Configuration("2048", "llama", LAYER | {
        "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 8,
    }),
    "head 128": Configuration("head 128", "qwen3", LAYER | {
        "hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 128,
    }),
}  # fmt: skip


def step_of(configuration: Configuration, batch: int, architecture: Architecture) -> Program:
    """The program of a decode step as it is made for a GPU; none is needed, and nothing is built."""
    taken: list[Program] = []

    def take(self: CpuTarget, program: Program, folder: object) -> None:
        taken.append(program)
        raise CompilerError("taken")

    torch._dynamo.reset()
    machine = architecture.machine(architecture.processors)
    with (
        mock.patch.object(CpuTarget, "machine", lambda self, workers=None: machine),
        mock.patch.object(CpuTarget, "build", take),
        pytest.raises(Exception, match="taken"),
    ):
        model, ids = configuration.model(torch.bfloat16), steps.prompt(configuration, batch, 6)
        steps.direct(configuration, model, ids, 2, compile=steps.compiled("cpu"))
    return taken[0]


@pytest.mark.parametrize(("name", "batch"), [("576", 1), ("2048", 1), ("2048", 4), ("head 128", 1)])
def test_decode_steps(name, batch):
    fits(step_of(SHAPES[name], batch, TESTED), most=SPILLED)


def test_a_decode_step_where_programs_never_ran():
    program = step_of(BY_NAME["Llama"], 1, BLACKWELL)
    assert program.machine == "cuda-sm100a"
    fits(program, BLACKWELL, most=SPILLED)


def test_a_decode_step_that_needs_more_memory_than_a_block_has_is_refused():
    """docs/gpus.md says so."""
    program = step_of(BY_NAME["Llama"], 1, CONSUMER)
    assert program.machine == "cuda-sm120a"
    with pytest.raises(CompilerError, match="bytes of shared memory for its kernels; sm_120a leaves"):
        generate(program, CONSUMER)
