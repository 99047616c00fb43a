"""Generated source of a few nests, as people read it. Accept changes with EXPECTTEST_ACCEPT=1."""

from __future__ import annotations

import torch
from expecttest import TestCase

from onelaunch.graph import build as b
from onelaunch.graph.dtype import DType
from onelaunch.graph.expr import Op
from onelaunch.graph.nest import Nest
from onelaunch.targets.cpu.emit import source
from tests.cpu.codegen_run import one_kernel
from tests.cpu.test_codegen_attend import Setup
from tests.cpu.test_codegen_linear import nest_of
from tests.cpu.test_codegen_linear import tensors_of

F32, BF16, I64 = DType.F32, DType.BF16, DType.I64


def body(nest, tensors, sizes=(), **options):
    """The functions, without what every file begins and ends with."""
    text = source(one_kernel(nest, tensors, sizes, **options))
    return text.split('extern "C" {\n')[1].split('}  // extern "C"')[0]


class Golden(TestCase):
    def test_the_file(self):
        i = b.var("i", 8)
        nest = Nest((i,), "y", F32, (i,), b.load("x", (i,), F32))
        self.assertExpectedInline(
            source(one_kernel(nest, {"x": torch.zeros(8), "y": torch.zeros(8)})),
            """\
#include <cstring>

#include "onelaunch/scalar.h"

namespace onelaunch {
extern "C" {

void onelaunch_run_0(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch) {
  const float* const x = static_cast<const float*>(args.buffers[operands[0]]);
  float* const y = static_cast<float*>(args.buffers[operands[1]]);
  #pragma omp simd
  for (int64_t i = 0; i < 8; ++i) {
    y[i] = x[i];
  }
}
}  // extern "C"
}  // namespace onelaunch
""",
        )

    def test_rotate_half(self):
        """A condition on the innermost variable splits the loop; the angle is read once a position."""
        h, d = b.var("h", 3), b.var("d", 64)
        x = lambda i: b.load("x", (h, i), BF16)  # noqa: E731
        half = b.where(
            b.lt(d, b.const(32)),
            b.pointwise(Op.NEG, x(b.add(d, b.const(32)))),
            x(b.sub(d, b.const(32))),
        )
        angle = b.mod(d, 32)
        total = b.add(b.mul(x(d), b.load("cos", (angle,), F32)), b.mul(half, b.load("sin", (angle,), F32)))
        nest = Nest((h, d), "y", BF16, (h, d), b.cast(total, BF16))
        tensors = {
            "x": torch.zeros(3, 64, dtype=torch.bfloat16), "cos": torch.zeros(32), "sin": torch.zeros(32),
            "y": torch.zeros(3, 64, dtype=torch.bfloat16),
        }  # fmt: skip
        self.assertExpectedInline(
            body(nest, tensors, (1,)),
            """\

void onelaunch_run_0(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch) {
  const bf16* const x = static_cast<const bf16*>(args.buffers[operands[0]]);
  const float* const cos1 = static_cast<const float*>(args.buffers[operands[1]]);
  const float* const sin1 = static_cast<const float*>(args.buffers[operands[2]]);
  bf16* const y = static_cast<bf16*>(args.buffers[operands[3]]);
  const int64_t low0 = tile[0];
  const int64_t high0 = tile[1];
  for (int64_t h = low0; h < high0; ++h) {
    const auto p0 = x + h * 64;
    const auto p1 = x + (h * 64) + 32;
    const auto p2 = y + h * 64;
    #pragma omp simd
    for (int64_t d = 0; d < 32; ++d) {
      p2[d] = from_float<bf16>((to_float(p0[d]) * cos1[d]) + ((-to_float(p1[d])) * sin1[d]));
    }
    const auto p3 = x + (h * 64) - 32;
    #pragma omp simd
    for (int64_t d1 = 32; d1 < 64; ++d1) {
      const int64_t t0 = d1 - 32;
      p2[d1] = from_float<bf16>((to_float(p0[d1]) * cos1[t0]) + (to_float(p3[d1]) * sin1[t0]));
    }
  }
}
""",
        )

    def test_softmax_with_a_limit_that_is_data(self):
        i, j, r = b.var("i", 4), b.var("j", 100), b.var("r", 100)
        limit = b.load("n", (i,), I64)
        x = lambda k: b.where(b.lt(k, limit), b.load("x", (i, k), F32), b.const(-1e4, F32))  # noqa: E731
        top = b.reduce("max", r, x(r))
        weight = lambda k: b.pointwise(Op.EXP, b.sub(x(k), top))  # noqa: E731
        result = b.pointwise(Op.DIV, weight(j), b.reduce("sum", r, weight(r)))
        nest = Nest((i, j), "y", F32, (i, j), result)
        tensors = {"x": torch.zeros(4, 100), "n": torch.zeros(4, dtype=torch.int64), "y": torch.zeros(4, 100)}
        self.assertExpectedInline(
            body(nest, tensors, (2,)),
            """\

void onelaunch_run_0(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch) {
  const float* const x = static_cast<const float*>(args.buffers[operands[0]]);
  const int64_t* const n = static_cast<const int64_t*>(args.buffers[operands[1]]);
  float* const y = static_cast<float*>(args.buffers[operands[2]]);
  const int64_t low0 = tile[0];
  const int64_t high0 = tile[1];
  for (int64_t i = low0; i < high0; ++i) {
    const int64_t t0 = minimum(maximum(n[i], 0), 100);
    const int64_t t1 = i * 100;
    const auto p0 = x + t1;
    float s0 = lowest<float>();
    #pragma omp simd reduction(maximum: s0)
    for (int64_t r = 0; r < t0; ++r) {
      s0 = maximum(s0, p0[r]);
    }
    #pragma omp simd reduction(maximum: s0)
    for (int64_t r1 = t0; r1 < 100; ++r1) {
      s0 = maximum(s0, -1e+04f);
    }
    float s1 = 0.0f;
    #pragma omp simd reduction(+: s1)
    for (int64_t r2 = 0; r2 < t0; ++r2) {
      const float t2 = p0[r2];
      s1 += exp(t2 - s0);
    }
    const float t3 = exp((-1e+04f) - s0);
    #pragma omp simd reduction(+: s1)
    for (int64_t r3 = t0; r3 < 100; ++r3) {
      s1 += t3;
    }
    const auto p1 = y + t1;
    #pragma omp simd
    for (int64_t j = 0; j < t0; ++j) {
      p1[j] = exp(p0[j] - s0) / s1;
    }
    const float t4 = t3 / s1;
    #pragma omp simd
    for (int64_t j2 = t0; j2 < 100; ++j2) {
      p1[j2] = t4;
    }
  }
}
""",
        )

    def test_scatter(self):
        i, j = b.var("i", 4), b.var("j", 12)
        value = b.load("x", (b.load("ids", (i,), I64), b.floordiv(j, 4), b.mod(j, 4)), F32)
        nest = Nest((i, j), "y", BF16, (b.load("slots", (i,), I64), j), value)
        tensors = {
            "x": torch.zeros(7, 3, 4), "ids": torch.zeros(4, dtype=torch.int64),
            "slots": torch.zeros(4, dtype=torch.int64), "y": torch.zeros(9, 12, dtype=torch.bfloat16),
        }  # fmt: skip
        self.assertExpectedInline(
            body(nest, tensors),
            """\

void onelaunch_run_0(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch) {
  const float* const x = static_cast<const float*>(args.buffers[operands[0]]);
  const int64_t* const ids = static_cast<const int64_t*>(args.buffers[operands[1]]);
  const int64_t* const slots = static_cast<const int64_t*>(args.buffers[operands[2]]);
  bf16* const y = static_cast<bf16*>(args.buffers[operands[3]]);
  for (int64_t i = 0; i < 4; ++i) {
    const auto p1 = y + slots[i] * 12;
    if (storable(slots[i], 9, 3, 0, scratch)) {
      const int64_t t0 = ids[i];
      const int64_t t1 = checked(t0, 7, 0, 0, scratch);
      const auto p0 = x + t1 * 12;
      #pragma omp simd
      for (int64_t j = 0; j < 12; ++j) {
        p1[j] = from_float<bf16>(p0[j]);
      }
    }
  }
}
""",
        )

    def test_linear(self):
        nest = nest_of(2, 40, 72, F32, BF16)
        tensors = tensors_of(2, 40, 72, torch.float32, torch.zeros(40, 72, dtype=torch.bfloat16))
        self.assertExpectedInline(
            body(nest, tensors, (0, 16), weights=("w",)),
            """\

void onelaunch_prefetch_0(const Args& args, const uint32_t* operands, const int64_t* tile) {
  const bf16* const w = static_cast<const bf16*>(args.buffers[operands[1]]);
  const int64_t low1 = tile[2];
  const int64_t high1 = tile[3];
  prefetch_linear<bf16, 2>(w, 72, 72, low1, high1);
}

void onelaunch_run_0(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch) {
  const float* const x = static_cast<const float*>(args.buffers[operands[0]]);
  const bf16* const w = static_cast<const bf16*>(args.buffers[operands[1]]);
  const float* const bias = static_cast<const float*>(args.buffers[operands[2]]);
  float* const y = static_cast<float*>(args.buffers[operands[3]]);
  const int64_t low1 = tile[2];
  const int64_t high1 = tile[3];
  float* const ready0 = reinterpret_cast<float*>(scratch.data + 0);
  float* const acc0 = reinterpret_cast<float*>(scratch.data + 768);
  prepare<bf16, 2>(x, 72, 72, ready0);
  linear<bf16, 2>(ready0, w, 72, 72, 0, 72, low1, high1, acc0, 16);
  const int64_t t1 = -low1;
  for (int64_t t = 0; t < 2; ++t) {
    const auto p0 = acc0 + (t * 16) + t1;
    const auto p1 = y + t * 40;
    #pragma omp simd
    for (int64_t n = low1; n < high1; ++n) {
      p1[n] = p0[n] + bias[n];
    }
  }
}
""",
        )

    def test_attend(self):
        s = Setup(dtype=torch.bfloat16)
        score = b.where(b.le(s.key, s.pos), s.parts["score"], b.const(float("-inf"), F32))
        nest = s.nest(score=score, stop=b.add(s.pos, b.const(1)), scan=s.seen)
        self.assertExpectedInline(
            body(nest, s.tensors, (3,)),
            """\

void onelaunch_run_0(const Args& args, const uint32_t* operands, const int64_t* tile, Scratch& scratch) {
  const bf16* const q = static_cast<const bf16*>(args.buffers[operands[0]]);
  const bf16* const k = static_cast<const bf16*>(args.buffers[operands[1]]);
  const bf16* const v = static_cast<const bf16*>(args.buffers[operands[2]]);
  const int64_t* const pos = static_cast<const int64_t*>(args.buffers[operands[3]]);
  const uint8_t* const mask = static_cast<const uint8_t*>(args.buffers[operands[4]]);
  float* const y = static_cast<float*>(args.buffers[operands[5]]);
  const int64_t low0 = tile[0];
  const int64_t high0 = tile[1];
  float* const q1 = reinterpret_cast<float*>(scratch.data + 0);
  float* const ready = reinterpret_cast<float*>(scratch.data + 192);
  float* const out = reinterpret_cast<float*>(scratch.data + 576);
  const int64_t t0 = minimum(pos[0] + 1, 40);
  const int64_t t3 = pos[0];
  for (int64_t h = low0; h < high0; h += 3) {
    const int64_t begin = 0;
    int64_t end = t0;
    for (; end > begin; --end) {
      if (mask[end - 1] != 0) break;
    }
    const int64_t t2 = h * (-16);
    for (int64_t h1 = h; h1 < h + 3; ++h1) {
      const int64_t t1 = h1 * 16;
      const auto p0 = q + t1;
      const auto p1 = q1 + t2 + t1;
      #pragma omp simd
      for (int64_t d = 0; d < 16; ++d) {
        p1[d] = to_float(p0[d]);
      }
    }
    prepare<bf16, 3>(q1, 16, 16, ready);
    const auto score = [&](int, int64_t position, float dot) -> float {
      const float t4 = dot * 0.25f;
      return (position <= t3) ? t4 : (-float_limits<float>::infinity());
    };
    const Cache<bf16, bf16> cache = {k + floor_div(h, 3) * 640, 16, v + floor_div(h, 3) * 640, 16, 16, 16};
    attend<3>(ready, cache, begin, end, score, nullptr, out, 16, true);
    for (int64_t h3 = h; h3 < h + 3; ++h3) {
      const int64_t t5 = h3 * 16;
      const auto p2 = out + t2 + t5;
      const auto p3 = y + t5;
      #pragma omp simd
      for (int64_t e = 0; e < 16; ++e) {
        p3[e] = p2[e];
      }
    }
  }
}
""",
        )
