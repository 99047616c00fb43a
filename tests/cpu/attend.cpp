// Entry points over attend.h for ctypes. The score function takes scale, soft cap, a boolean mask and an additive bias.
#include "onelaunch/attend.h"

#include <vector>

using namespace onelaunch;

struct Call {
  const float* queries;  // [queries][key_size]
  const void* keys;
  const void* values;
  int64_t key_stride, value_stride, key_size, value_size, begin, end;
  float scale, cap;
  const bool* mask;   // [queries][end] or null
  const float* bias;  // [queries][end] or null
  const float* sinks;
  float* out;
  int32_t parts, empty_is_zero;
};

template <int Q, class E>
static void run(const Call& c) {
  std::vector<float> prepared(size_t(prepared_size(Q, c.key_size)));
  prepare<E, Q>(c.queries, c.key_size, c.key_size, prepared.data());
  const Cache<E, E> cache{static_cast<const E*>(c.keys),   c.key_stride, static_cast<const E*>(c.values),
                          c.value_stride, c.key_size,   c.value_size};
  const auto score = [&](int q, int64_t s, float dot) {
    dot *= c.scale;
    if (c.cap != 0) dot = c.cap * tanh(dot / c.cap);
    if (c.bias) dot += c.bias[q * c.end + s];
    return c.mask && !c.mask[q * c.end + s] ? -INFINITY : dot;
  };
  if (c.parts == 1) {
    attend<Q>(prepared.data(), cache, c.begin, c.end, score, c.sinks, c.out, c.value_size, c.empty_is_zero != 0);
    return;
  }
  Softmax state[Q], part[Q];
  std::vector<float> part_out(size_t(Q * c.value_size));
  attend_begin<Q>(c.value_size, c.sinks, state, c.out, c.value_size);
  const int64_t length = c.end - c.begin;
  for (int64_t p = 0; p < c.parts; ++p) {
    attend_begin<Q>(c.value_size, nullptr, part, part_out.data(), c.value_size);
    attend_range<Q>(prepared.data(), cache, c.begin + length * p / c.parts, c.begin + length * (p + 1) / c.parts,
                    score, part, part_out.data(), c.value_size);
    attend_merge<Q>(c.value_size, part, part_out.data(), c.value_size, state, c.out, c.value_size);
  }
  attend_end<Q>(c.value_size, state, c.out, c.value_size, c.empty_is_zero != 0);
}

template <class E>
static int choose(int queries, const Call& c) {
  switch (queries) {
    case 1: run<1, E>(c); return 0;
    case 2: run<2, E>(c); return 0;
    case 3: run<3, E>(c); return 0;
    case 7: run<7, E>(c); return 0;
    case 12: run<12, E>(c); return 0;
  }
  return 1;
}

extern "C" int attend_bf16(int queries, const Call* c) { return choose<bf16>(queries, *c); }
extern "C" int attend_fp16(int queries, const Call* c) { return choose<fp16>(queries, *c); }
extern "C" int attend_fp32(int queries, const Call* c) { return choose<float>(queries, *c); }
