// CUDA C++ for the CPU: the same .cu, compiled by g++, with one fiber per CUDA thread. For tests only.
//
// Blocks run one after the other, in a chosen order; the threads of a block take turns at barriers and at warp
// operations, in a chosen order too. cuda_bf16.h and mma.h beside this file stand in for CUDA's own.
#pragma once

#include <math.h>
#include <stddef.h>

#include "runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) alignas(n)
// Blocks run one at a time, so shared memory can be static; all of it lies in the module's .bss, where the runtime
// finds it.
#define __shared__ static
#define SHARED_BYTES(name) unsigned char* const name = emulation::dynamic_shared

#define threadIdx (emulation::thread->index)
#define blockIdx (emulation::block_index)
#define blockDim (emulation::block_size)
#define gridDim (emulation::grid_size)
#define warpSize 32

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// The line of the caller goes along: threads that meet at different lines have diverged.
inline void __syncthreads(int line = __builtin_LINE()) { emulation::barrier(0, line); }
inline int __syncthreads_or(int p, int line = __builtin_LINE()) { return emulation::barrier(p, line) != 0; }
inline int __syncthreads_count(int p, int line = __builtin_LINE()) { return emulation::barrier(p, line); }
inline int __syncthreads_and(int p, int line = __builtin_LINE()) { return emulation::barrier(!p, line) == 0; }
inline void __threadfence() { emulation::fence(); }
inline void __threadfence_block() {}

#include "arithmetic.h"
#include "atomics.h"
#include "vectors.h"
#include "warps.h"
