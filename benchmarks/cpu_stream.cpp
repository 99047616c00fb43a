// How fast the CPU target's matrix products stream weights, beside plain reading of the same bytes.
//
//   g++ -std=c++17 -O3 -march=native -ffp-contract=off -pthread -Ionelaunch/targets/cpu/include
//       benchmarks/cpu_stream.cpp -o cpu_stream && ./cpu_stream
//
// Two threads, bf16 matrices of a 135M-parameter decoder (hidden 576, 30 layers, vocabulary 49152), 269 MB, each read
// once a run. Prints the least and the median of the runs: on a busy machine only the least means anything.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "onelaunch/event.h"
#include "onelaunch/linear.h"

using namespace onelaunch;

namespace {

struct Matrix {
  int64_t rows, columns;
  const bf16* data;
};

constexpr int kThreads = 2, kRuns = 25;
volatile float sink;

template <class F>
void measure(const char* name, double bytes, F&& body) {
  std::vector<double> times;
  for (int run = 0; run < kRuns; ++run) {
    std::atomic<int> ready{0}, done{0};
    int64_t began = 0;
    std::thread other([&] {
      ready.fetch_add(1);
      while (ready.load() < kThreads) relax();
      body(1);
      done.fetch_add(1);
    });
    while (ready.load() < 1) relax();
    began = nanoseconds();
    ready.fetch_add(1);
    body(0);
    while (done.load() < 1) relax();
    times.push_back(double(nanoseconds() - began) * 1e-6);
    other.join();
  }
  std::sort(times.begin(), times.end());
  std::printf("%-6s least %6.2f ms (%5.1f GB/s)   median %6.2f ms\n", name, times[0], bytes / times[0] * 1e-6,
              times[kRuns / 2]);
}

template <int T>
void multiply(const std::vector<Matrix>& matrices, const float* x, int thread) {
  static std::vector<float> sums[kThreads];
  sums[thread].resize(T * 49152 / kThreads);
  for (const Matrix& m : matrices) {
    const int64_t from = m.rows * thread / kThreads, to = m.rows * (thread + 1) / kThreads;
    linear<bf16, T>(x, m.data, m.columns, m.columns, 0, m.columns, from, to, sums[thread].data(), to - from);
  }
  sink = sums[thread][0];
}

// Four runs side by side, as `linear` reads for one token.
void read(const std::vector<bf16>& weights, int thread) {
  const size_t bytes = weights.size() / kThreads / 4 * sizeof(bf16) / kLineBytes * kLineBytes;
  const char* from = reinterpret_cast<const char*>(weights.data()) + size_t(thread) * 4 * bytes;
  int32v sums[4] = {};
  for (size_t at = 0; at < bytes; at += kVecBytes)
    for (int i = 0; i < 4; ++i) sums[i] += load<int32v>(from + size_t(i) * bytes + at);
  sink = float(sums[0][0] + sums[1][0] + sums[2][0] + sums[3][0]);
}

}  // namespace

int main() {
  std::vector<std::pair<int64_t, int64_t>> shapes;
  for (int layer = 0; layer < 30; ++layer)
    for (auto shape : {std::pair<int64_t, int64_t>{576, 576}, {192, 576}, {192, 576}, {576, 576}, {1536, 576},
                       {1536, 576}, {576, 1536}})
      shapes.push_back(shape);
  shapes.push_back({49152, 576});
  size_t count = 0;
  for (auto [rows, columns] : shapes) count += size_t(rows * columns);
  std::vector<bf16> weights(count, bf16{0x3C00});
  std::vector<Matrix> matrices;
  const bf16* at = weights.data();
  for (auto [rows, columns] : shapes) {
    matrices.push_back({rows, columns, at});
    at += rows * columns;
  }
  alignas(64) static float x[8 * 1536];
  std::fill(x, x + 8 * 1536, 0.01f);
  const double bytes = double(count * sizeof(bf16));
  measure("read", bytes, [&](int thread) { read(weights, thread); });
  measure("T=1", bytes, [&](int thread) { multiply<1>(matrices, x, thread); });
  measure("T=2", bytes, [&](int thread) { multiply<2>(matrices, x, thread); });
  measure("T=4", bytes, [&](int thread) { multiply<4>(matrices, x, thread); });
  measure("T=8", bytes, [&](int thread) { multiply<8>(matrices, x, thread); });
}
