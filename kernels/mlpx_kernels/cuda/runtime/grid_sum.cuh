// Sums over all threads of all blocks in the launch that makes the terms, in an order that the grid alone decides.
#pragma once
#include "common.cuh"

// True in one thread, in which `mine` is then the sum. `partials` has gridDim.x places; `counter` is 0 before and
// after.
template <int THREADS>
__device__ __forceinline__ bool sum_over_grid(double& mine, double* partials, u32* counter) {
    mine = block_sum<THREADS>(mine);
    if (gridDim.x > 1) {
        if (threadIdx.x == 0) partials[blockIdx.x] = mine;
        if (!last_block(counter, gridDim.x)) return false;
        mine = 0.0;
        for (u32 part = threadIdx.x; part < gridDim.x; part += THREADS) mine += partials[part];
        mine = block_sum<THREADS>(mine);
    }
    return threadIdx.x == 0;
}
