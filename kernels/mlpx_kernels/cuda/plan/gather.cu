// The rows of a step's batch, and with them all that belongs to a row, from the data to the buffers of the step.
#include "common.cuh"

constexpr int ROWS_AT_ONCE = 8;  // warps of a block, a row each

template <typename T> __device__ __forceinline__ void copy_row(const T* from, T* to, i64 cols, int lane) {
    if (cols * sizeof(T) % 16 == 0 && aligned16(from) && aligned16(to)) {
        const Vector<T>* source = (const Vector<T>*)from;
        Vector<T>* target = (Vector<T>*)to;
#pragma unroll 1  // more, and ptxas spills
        for (i64 k = lane; k < cols / Vector<T>::SIZE; k += WARP) target[k] = source[k];
    } else {
#pragma unroll 1  // more, and ptxas spills
        for (i64 k = lane; k < cols; k += WARP) to[k] = from[k];
    }
}

// Row r of the batch is row order[next * batch + r] of the data, `next` being the step that the clock is about to take.
// x is (n, x_cols), labels (n,), targets (n, cols), weights (n,), mask (n, cols); each of the last four may be null.
// First kernel of a step: it tells the others which step this is.
template <typename T>
__global__ void __launch_bounds__(ROWS_AT_ONCE* WARP) gather(
    const T* x, T* batch_x, const i64* labels, i64* batch_labels, const T* targets, T* batch_targets, const T* weights,
    T* batch_weights, const u8* mask, u8* batch_mask, const i64* order, Clock* clock, i64 batch, i64 rows, i64 x_cols,
    i64 cols
) {
    const i64 next = clock->next, start = next * batch;
    if (blockIdx.x == 0 && threadIdx.x == 0) clock->step = next;
    const int lane = threadIdx.x % WARP;
    for (i64 row = (i64)blockIdx.x * ROWS_AT_ONCE + threadIdx.x / WARP; row < rows; row += (i64)gridDim.x * ROWS_AT_ONCE) {
        const i64 from = order[start + row];
        copy_row(x + from * x_cols, batch_x + row * x_cols, x_cols, lane);
        if (targets) copy_row(targets + from * cols, batch_targets + row * cols, cols, lane);
        if (mask) copy_row(mask + from * cols, batch_mask + row * cols, cols, lane);
        if (labels && lane == 0) batch_labels[row] = labels[from];
        if (weights && lane == 0) batch_weights[row] = weights[from];
    }
}
