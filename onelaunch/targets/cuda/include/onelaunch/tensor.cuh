// Tensor cores. One step adds the products of 16 rows of tokens and 8 rows of weights along 16 elements to a 16 x 8 tile.
//
// Which lane holds what is the instruction's (PTX ISA, mma.m16n8k16): lane 4 r + q holds, of row r of the weights and of
// rows r and r + 8 of the tokens, elements 2 q, 2 q + 1 and 2 q + 8, 2 q + 9 of the 16; and of the sums, tokens r and
// r + 8 of weights 2 q and 2 q + 1. Both sides may number the elements as they like, as long as it is the same way.
#pragma once

#include "storage.cuh"

namespace onelaunch {

struct Rows16 {
  uint32_t low[2], high[2];  // rows r and r + 8
};

__device__ __forceinline__ void multiply_add(float (&sums)[4], const Rows16& x, const uint32_t (&w)[2], bf16) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(x.low[0]), "r"(x.high[0]), "r"(x.low[1]), "r"(x.high[1]), "r"(w[0]), "r"(w[1]));
}

__device__ __forceinline__ void multiply_add(float (&sums)[4], const Rows16& x, const uint32_t (&w)[2], fp16) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(x.low[0]), "r"(x.high[0]), "r"(x.low[1]), "r"(x.high[1]), "r"(w[0]), "r"(w[1]));
}

}  // namespace onelaunch
