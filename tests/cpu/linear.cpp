// Entry points over linear.h for ctypes: one per weight type, T chosen at run time.
#include "onelaunch/linear.h"
#include "onelaunch/linear_columns.h"

#include <vector>

using namespace onelaunch;

struct Call {
  const float* x;  // [tokens][length], row stride x_stride
  int64_t x_stride;
  const void* w;
  int64_t row_stride, length, k0, k1, n0, n1;
  float* acc;
  int64_t acc_stride;
  int32_t accumulate, columns;
};

template <class W, int T>
static void run(const Call& c) {
  std::vector<float> prepared(size_t(prepared_size(T, c.length)));
  const W* w = static_cast<const W*>(c.w);
  if (c.columns) {
    prepare_columns<T>(c.x, c.x_stride, c.length, prepared.data());
    linear_columns<W, T>(prepared.data(), w, c.row_stride, c.length, c.k0, c.k1, c.n0, c.n1, c.acc, c.acc_stride,
                         c.accumulate != 0);
  } else {
    prepare<W, T>(c.x, c.x_stride, c.length, prepared.data());
    linear<W, T>(prepared.data(), w, c.row_stride, c.length, c.k0, c.k1, c.n0, c.n1, c.acc, c.acc_stride,
                 c.accumulate != 0);
  }
}

template <class W>
static int choose(int tokens, const Call& c) {
  switch (tokens) {
    case 1: run<W, 1>(c); return 0;
    case 2: run<W, 2>(c); return 0;
    case 3: run<W, 3>(c); return 0;
    case 4: run<W, 4>(c); return 0;
    case 5: run<W, 5>(c); return 0;
    case 8: run<W, 8>(c); return 0;
    case 16: run<W, 16>(c); return 0;
    case 19: run<W, 19>(c); return 0;
  }
  return 1;
}

extern "C" int linear_bf16(int tokens, const Call* c) { return choose<bf16>(tokens, *c); }
extern "C" int linear_fp16(int tokens, const Call* c) { return choose<fp16>(tokens, *c); }
extern "C" int linear_fp32(int tokens, const Call* c) { return choose<float>(tokens, *c); }

extern "C" void bf16_to_float(const bf16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = to_float(from[i]);
}
extern "C" void fp16_to_float(const fp16* from, float* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = to_float(from[i]);
}
extern "C" void float_to_bf16(const float* from, bf16* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from_float<bf16>(from[i]);
}
extern "C" void float_to_fp16(const float* from, fp16* to, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from_float<fp16>(from[i]);
}
