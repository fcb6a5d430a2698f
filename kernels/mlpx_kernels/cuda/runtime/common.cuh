// What every kernel shares: number types, the step's clock, reductions over a warp and over a block.
//
// The same sources run on a GPU (NVRTC) and, in the tests, on the CPU (g++ with MLPX_EMULATION).
#pragma once

#if defined(MLPX_BF16) || defined(MLPX_EMULATION)
#include <cuda_bf16.h>
#endif
#ifdef MLPX_EMULATION
#include "cuda_on_cpu.h"
#else
#define SHARED_BYTES(name) extern __shared__ __align__(128) unsigned char name[]
#endif

#ifndef INFINITY  // NVRTC does not define it
#define INFINITY (__int_as_float(0x7f800000))
#endif

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned char u8;

constexpr u32 ALL_LANES = 0xffffffffu;
constexpr int WARP = 32;

// Threads that a multiprocessor is to hold of a light kernel: on Hopper all of them, at 32 registers each. For other
// architectures ptxas would spill to get there.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900
constexpr bool HOPPER = true;
#else
constexpr bool HOPPER = false;
#endif
constexpr int FULL_THREADS = HOPPER ? 2048 : 1536;

// Of a number of blocks that a division may have made none of.
__host__ __device__ constexpr int at_least_one(int blocks) { return blocks > 1 ? blocks : 1; }

// The type that sums of T are taken in.
template <typename T> struct Accumulator { typedef float type; };
template <> struct Accumulator<double> { typedef double type; };
template <typename T> using Acc = typename Accumulator<T>::type;

// Sixteen bytes of T, for loads and stores of whole vectors.
template <typename T> struct alignas(16) Vector {
    static constexpr int SIZE = 16 / sizeof(T);
    T at[SIZE];
};

template <typename T> __device__ __forceinline__ bool aligned16(const T* p) { return ((u64)p & 15) == 0; }

// The step's clock, in device memory: a captured step reads from it what differs from step to step.
//
// The gather, first kernel of a step, copies `next` to `step`; all later kernels read `step`; the update, last of a
// step, sets `next`. So no kernel reads what another of its threads writes.
struct Clock {
    i64 next;        // index of the step to take, within the slice of steps that the arrays of rates and losses cover
    i64 step;        // index of the step being taken
    i64 first_step;  // number of the slice's first step since the fit began; with `step` it chooses dropout masks
    i64 updates;     // updates that the optimiser had made before this slice
    i64 failed;      // 0, or 1 + index of the first step whose loss was not finite: updates do nothing from there on
};

template <typename A> __device__ __forceinline__ A warp_sum(A v) {
#pragma unroll
    for (int lane = WARP / 2; lane > 0; lane /= 2) v += __shfl_xor_sync(ALL_LANES, v, lane);
    return v;
}

template <typename A> __device__ __forceinline__ A warp_max(A v) {
#pragma unroll
    for (int lane = WARP / 2; lane > 0; lane /= 2) {
        const A other = __shfl_xor_sync(ALL_LANES, v, lane);
        v = other > v ? other : v;
    }
    return v;
}

// Sums over a block of THREADS threads, a multiple of 32 up to 1024; every thread gets the result.
template <int THREADS, typename A> __device__ __forceinline__ A block_sum(A v) {
    __shared__ A parts[WARP];
    v = warp_sum(v);
    if (THREADS == WARP) return v;
    __syncthreads();  // the parts of an earlier call have been read
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    return warp_sum(threadIdx.x % WARP < THREADS / WARP ? parts[threadIdx.x % WARP] : A(0));
}

// True in every thread of the block that finishes last among `blocks` which call this with the same counter; what the
// others wrote before is visible to it. The counter must start at 0 and is 0 again afterwards.
__device__ __forceinline__ bool last_block(u32* counter, u32 blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        const u32 before = atomicAdd(counter, 1u);
        last = before == blocks - 1;
        if (last) *counter = 0;
    }
    __syncthreads();
    __threadfence();
    return last;
}
