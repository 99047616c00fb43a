"""C++ source of a program: one function per kernel, which calls the headers in ``include/onelaunch``.

What the generated code uses of the headers:

- types.h: ``bf16``, ``fp16``, ``to_float(x)``, ``from_float<W>(x)``.
- math.h: scalar functions on float *and* double that a loop of them vectorises for float: ``exp, expm1, log, log1p,
  log2, sin, cos, tanh, sigmoid, erf, erfinv, pow, atan2`` in namespace onelaunch (float in, float out).
- runtime.h: a kernel is ``void kernel_N(const onelaunch::Call& call)``, where a Call offers
  ``void* operand(int i)`` (address of the task's i-th operand), ``const int64_t* symbols`` (program order),
  ``const int64_t* tile`` (low, high of each variable in turn), ``char* scratch`` (this worker's, 64-byte aligned),
  and ``void fault(int operand, int dim, int64_t index, int64_t size)`` (keeps the first; noinline, cold).
"""
