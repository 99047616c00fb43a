// math.h over arrays: each loop here must vectorise, which test_math.py asks the compiler about.
#include "onelaunch/math.h"

using namespace onelaunch;

#define EACH(name)                                                            \
  extern "C" void run_##name(const float* __restrict x, float* __restrict y, int64_t n) { \
    _Pragma("omp simd") for (int64_t i = 0; i < n; ++i) y[i] = name(x[i]);    \
  }

// clang-format off
EACH(exp) EACH(expm1) EACH(exp2) EACH(log) EACH(log1p) EACH(log2) EACH(log10) EACH(tanh)
EACH(sigmoid) EACH(silu) EACH(erf) EACH(gelu_erf) EACH(gelu_tanh) EACH(sqrt) EACH(rsqrt) EACH(softplus)
// clang-format on
