"""Generated CUDA C++ as people read it (accept changes with EXPECTTEST_ACCEPT=1), and what the device reads."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from expecttest import TestCase

from onelaunch.errors import CompilerError
from onelaunch.graph.dtype import DType
from onelaunch.program import machine as machines
from onelaunch.program.program import Buffer
from onelaunch.program.program import Role
from onelaunch.targets.cuda import records
from onelaunch.targets.cuda.emit import generate
from onelaunch.targets.cuda.emit import source
from onelaunch.transform import compile_graph
from tests import programs as P
from tests.cpu.codegen_run import one_kernel
from tests.cpu.test_codegen_linear import nest_of
from tests.cpu.test_codegen_linear import tensors_of
from tests.lowering import test_paged
from tests.transform.graphs import graph_of


class Golden(TestCase):
    def test_a_product_with_a_norm_before_it(self):
        t, k = 2, 72
        nest = P.linear(
            "y",
            t,
            40,
            k,
            lambda i, r: P.norm("x", "g", i, r, k),
            ("w",),
            lambda i, j, a: P.b.add(a, P.b.const(1.0, P.F32)),
        )
        tensors = {"x": torch.zeros(t, k), "g": torch.zeros(k), "w": torch.zeros(40, k), "y": torch.zeros(t, 40)}
        text = source(one_kernel(nest, tensors, (0, 16), weights=("w",)))
        self.assertExpectedInline(
            text,
            """\
#include "onelaunch/engine.cuh"
#include "onelaunch/scalar.cuh"
#include "onelaunch/linear.cuh"

namespace onelaunch {

struct Shape {
  static constexpr int kOperands = 4, kVars = 2, kSymbols = 1;
  static constexpr int kSpans = 1, kSlots = 1, kSlotBytes = 0;
  static constexpr int kBuffers = 4, kStages = 6, kShared = 1664;
  static constexpr uint64_t kScratch = 0;
};
using Launch = LaunchOf<Shape>;
using Task = TaskOf<Shape>;
using Ring = Stages<Shape::kStages>;
using Source = Producer<Shape::kStages>;
using Slots = Stages<Shape::kSlots, Shape::kSlotBytes>;
using Fetch = Fetcher<Shape::kSlots, Shape::kSlotBytes>;
static_assert(sizeof(Task) == 128, "records.py packs this layout");
static_assert(sizeof(Launch) == 144, "records.py packs this layout");
static_assert(sizeof(Block<Shape>) <= 4096, "shared memory holds it");

__device__ __forceinline__ void stream_0(const Launch& launch, const Task& task, Source& producer) {
  const auto w = operand<const float>(launch, task, 2);
  const int64_t low1 = task.tile[2];
  const int64_t high1 = task.tile[3];
  if (const int64_t block = low1, block_end = high1; block < block_end) {
    producer.rows<float, 1>(w + block * 72, 72, 72, block_end - block);
  }
}

__device__ __forceinline__ void run_0(const Launch& launch, const Task& task,
                                      const Scratch& scratch, Ring& stages, Slots& fetched) {
  const auto x = operand<const float>(launch, task, 0);
  const auto g = operand<const float>(launch, task, 1);
  const auto y = operand<float>(launch, task, 3);
  const int64_t low1 = task.tile[2];
  const int64_t high1 = task.tile[3];
  float* const x0 = reinterpret_cast<float*>(scratch.shared + 0);
  float* const sums0 = reinterpret_cast<float*>(scratch.shared + 640);
  scratch.begin();
  for (int64_t i0 = 0; i0 < 2; ++i0) {
    const uint32_t step0 = thread_of_block();
    const int64_t t0 = i0 * 72;
    const auto p0 = x + t0;
    float s0 = 0.0f;
    for (uint32_t turn0 = 0; turn0 < 1; ++turn0) {
      const int64_t q = turn0 * kThreads + thread_of_block();
      if (q < 72) {
        const float t1 = p0[q];
        s0 += t1 * t1;
      }
    }
    s0 = reduce_block<Sum>(s0, *scratch.exchange);
    const float t2 = rsqrt((s0 * 0.013888889f) + 1e-05f);
    const auto p1 = x0 + t0;
    if (step0 < 72u) {
      const int64_t r = step0;
      p1[r] = (p0[r] * t2) * g[r];
    }
  }
  sync_block();
  if (const int64_t block = low1, block_end = high1; block < block_end) {
    linear_plain<float, 2, 1, 16, Shared>(stages, x0, 72, 72, block_end - block, sums0);
    sync_block();
    const uint32_t count0 = steps(block, block_end);
    const uint32_t step1 = thread_of_block();
    const int64_t t3 = -block;
    if (step1 < 2u * count0) {
      const int64_t i1 = block + (step1 % count0);
      const uint32_t left0 = step1 / count0;
      const int64_t i01 = left0;
      const auto p2 = sums0 + (i01 * 16) + t3;
      const auto p3 = sums0 + ((i01 * 16) + t3) + 32;
      const auto p4 = sums0 + ((i01 * 16) + t3) + 64;
      const auto p5 = sums0 + ((i01 * 16) + t3) + 96;
      const auto p6 = sums0 + ((i01 * 16) + t3) + 128;
      const auto p7 = sums0 + ((i01 * 16) + t3) + 160;
      const auto p8 = sums0 + ((i01 * 16) + t3) + 192;
      const auto p9 = sums0 + ((i01 * 16) + t3) + 224;
      const auto p10 = y + i01 * 40;
      p10[i1] = (((((((p2[i1] + p3[i1]) + p4[i1]) + p5[i1]) + p6[i1]) + p7[i1]) + p8[i1]) + p9[i1]) + 1.0f;
    }
  }
}

struct Kernels {
  static __device__ __forceinline__ void run(const Launch& launch, const Task& task, const Scratch& scratch,
                                             Ring& stages, Slots& fetched) {
    switch (task.kernel) {
      case 0: return run_0(launch, task, scratch, stages, fetched);
    }
  }
  static __device__ __forceinline__ void stream(const Launch& launch, const Task& task, Source& producer) {
    switch (task.kernel) {
      case 0: return stream_0(launch, task, producer);
    }
  }
  static __device__ __forceinline__ void fetch(const Launch& launch, const Task& task, Fetch& fetcher) {
    switch (task.kernel) {
    }
  }
};

}  // namespace onelaunch

extern "C" __global__ void __launch_bounds__(onelaunch::kBlock, 1)
    onelaunch_program(const __grid_constant__ onelaunch::Launch launch) {
  onelaunch::work<onelaunch::Kernels>(launch);
}
""",
        )


def test_a_record_holds_what_the_task_says():
    program = P.mlp(workers=3)
    made = generate(program)
    shape, tables = made.shape, records.Tables(program, made.shape, made.flow)
    words = tables.records.reshape(len(program.tasks), shape.record_words)
    order = [n for q in program.queues for n in q]
    assert list(words[:, 1]) == order
    for row, number in zip(words, order, strict=True):
        task = program.tasks[number]
        assert (row[0], row[2], row[3]) == (task.kernel, len(task.waits), len(task.signals))
        waits = [(e, v, program.events[e].total) for e, v in task.waits[: records.INLINE]]
        assert row[6 : 6 + 3 * len(waits)].tolist() == [w for wait in waits for w in wait]
        assert row[18 : 18 + min(len(task.signals), 4)].tolist() == list(task.signals[:4])
        assert row[22 : 22 + len(task.operands)].tolist() == list(task.operands)
        bounds = 22 + shape.operands
        assert row[bounds : bounds + 2 * len(task.tile)].tolist() == [b for span in task.tile for b in span]
        spans, first = made.flow.spans[number], bounds + 2 * shape.vars
        assert row[first : first + 2 * len(spans)].tolist() == [n for span in spans for n in span]
    assert tables.queues.tolist() == np.cumsum([0, *map(len, program.queues)]).tolist()
    packed, starts = tables.packed()
    assert all(start % 256 == 0 for start in starts.values()), starts
    assert (packed[: tables.records.size] == tables.records).all()
    assert ctypes.sizeof(records.launch_type(shape)) == shape.launch_bytes


def test_long_lists_go_to_tables():
    program = P.mlp(workers=2)
    task = dataclasses.replace(program.tasks[0], waits=tuple((0, n) for n in range(9)), signals=(0,) * 6)
    program = dataclasses.replace(program, tasks=(task, *program.tasks[1:]))
    made = generate(program)
    tables = records.Tables(program, made.shape, made.flow)
    assert tables.waits.tolist() == [w for n in range(4, 9) for w in (0, n, program.events[0].total)]
    assert tables.signals.tolist() == [0, 0]


def test_the_same_program_gives_the_same_source():
    assert source(P.attention()) == source(P.attention())


def test_streamed_early_only_what_nobody_writes():
    w = torch.zeros(40, 72, dtype=torch.bfloat16)
    nest, tensors = nest_of(2, 40, 72, DType.F32, DType.BF16), tensors_of(2, 40, 72, torch.float32, w)
    assert "wait_for_events" not in source(one_kernel(nest, tensors, (0, 16), weights=("w",)))
    assert "wait_for_events" in source(one_kernel(nest, tensors, (0, 16)))


def test_more_buffers_than_a_launch_carries_are_refused():
    program = P.chain()
    more = tuple(Buffer(f"x{n}", P.F32, (), (), Role.INPUT, 10 + n) for n in range(5000))
    with pytest.raises(CompilerError, match="a launch carries 4082 of both"):
        generate(dataclasses.replace(program, buffers=(*program.buffers, *more)))


def test_importing_and_choosing_another_target_touches_no_cuda():
    code = (
        "import sys, onelaunch, onelaunch.runtime.compiled\n"
        "from onelaunch.runtime.targets import resolve, select\n"
        "select('reference'), resolve('auto', [])\n"
        "found = [m for m in sys.modules if m.startswith(('cuda.core', 'onelaunch.targets.cuda'))]\n"
        "assert not found, found\n"
        "import torch\n"
        "assert not torch.cuda.is_initialized()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_queries_wait_for_events_where_they_come_from_the_memory_of_the_keys():
    """Attention waits late for what keys and values alone need, not for what its queries read before."""
    heads, size, rows = 2, 64, 96

    def together(x, w):
        y = (x @ w.T).view(rows, heads, size).permute(1, 0, 2)[None]
        seen = torch.arange(rows)[None, :] <= torch.arange(rows)[:, None]
        return torch.softmax(torch.where(seen, y @ y.mT, -float("inf")), -1) @ y

    given = torch.randn(rows, 32), torch.randn(heads * size, 32)
    text = generate(compile_graph(graph_of(together, *given), machines.cuda(4))).text()
    body = text[text.index("attend<") - 8000 : text.index("attend<")]
    assert "attend<1, 64, 64, kEmptyIsNan>(fill, [] {}," in text
    assert "if (!scratch.events_reached()) return;" in body[body.rindex("void run_") :]
    apart = test_paged.inputs([17], torch.bfloat16)
    text = generate(compile_graph(graph_of(test_paged.step(), *apart), machines.cuda(4))).text()
    assert "(fill, [&] { scratch.events_reached(), scratch.begin(); }," in text
