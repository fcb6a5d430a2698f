// What the losses share: how the sum over all rows comes about in the same launch, and where it goes.
#pragma once
#include "mathematics.cuh"

// 1 / the total weight of the batch; `total` is null where every row weighs 1.
__device__ __forceinline__ double reciprocal_weight(const double* total, i64 rows) {
    const double weight = total ? *total : (double)rows;
    return weight > 0.0 ? 1.0 / weight : 1.0;
}

// Adds `mine` over all threads of all blocks, in an order that the grid alone decides; true in one thread, which then
// holds the sum. `partials` has gridDim.x places; `counter` is 0 before and after.
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

// Writes the loss to `loss` and to the step's place in `losses`, and notes in the clock if it is not finite. Each of
// the three may be null; without a clock, `losses` has one place.
template <int THREADS, typename T>
__device__ __forceinline__ void finish_loss(
    double mine, double* partials, u32* counter, T* loss, double* losses, Clock* clock
) {
    if (sum_over_grid<THREADS>(mine, partials, counter)) {
        if (loss) *loss = T(mine);
        if (losses) losses[clock ? clock->step : 0] = mine;
        if (clock && !maths::finite(mine) && clock->failed == 0) clock->failed = clock->step + 1;
    }
}
