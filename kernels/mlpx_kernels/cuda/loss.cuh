// What the losses share: the total weight, and where the sum over all rows goes.
#pragma once
#include "grid_sum.cuh"
#include "mathematics.cuh"

// 1 / the total weight of the batch; `total` is null where every row weighs 1.
__device__ __forceinline__ double reciprocal_weight(const double* total, i64 rows) {
    const double weight = total ? *total : (double)rows;
    return weight > 0.0 ? 1.0 / weight : 1.0;
}

// A row's loss as that of probabilities clipped to [eps, 1 - eps], with ceiling = -log eps; NaN stays.
template <typename A> __device__ __forceinline__ A between(A loss, double ceiling) {
    const A most = A(ceiling), least = maths::exp(-most);
    return loss > most ? most : (loss < least ? least : loss);
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
