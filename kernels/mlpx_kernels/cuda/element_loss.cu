// Losses of single outputs and their gradients: predictions and targets read once, gradients written once.
#include "common.cuh"
#include "element_loss.cuh"
#include "loss.cuh"

constexpr int ELEMENT_THREADS = 256;

// Blocks that a multiprocessor is to hold: all of its threads, where that spills no registers.
template <typename T, int CODE> constexpr int ELEMENT_BLOCKS = sizeof(T) == 8 ? 4 : (CODE == BINARY_FOCAL ? 6 : 8);

// loss = sum_i r_i sum_o l_io / R and dy = its gradient, for the predictions y + bias. Arrays are (rows, cols),
// sample_weight (rows,), bias and column (cols,); bias, sample_weight, column and mask may be null, and dy may be y.
// Without `column` every element takes `level`. `total` is R, null where that is the number of rows.
template <typename T, int CODE>
__global__ void __launch_bounds__(ELEMENT_THREADS, (ELEMENT_BLOCKS<T, CODE>))
element_losses(
    const T* y, const T* bias, const T* target, const T* sample_weight, const T* column, const u8* mask, double level,
    double option, const double* total, T* dy, T* loss, double* losses, Clock* clock, double* partials, u32* counter,
    i64 rows, i64 cols
) {
    typedef Acc<T> A;
    const A inverse_total = A(reciprocal_weight(total, rows));
    const i64 size = rows * cols, step = (i64)gridDim.x * ELEMENT_THREADS;
    const bool placed = bias || sample_weight || column;
    double mine = 0.0;
#pragma unroll 1
    for (i64 at = (i64)blockIdx.x * ELEMENT_THREADS + threadIdx.x; at < size; at += step) {
        i64 row = 0, place = 0;
        if (placed) {  // a quotient of 64 bits costs as much as all the rest
            row = size >> 31 ? at / cols : (i64)((u32)at / (u32)cols);
            place = at - row * cols;
        }
        const A share = (sample_weight ? A(sample_weight[row]) : A(1)) * inverse_total;
        A gradient = A(0);
        if (share > A(0) && !(mask && !mask[at])) {
            const A value = A(y[at]) + (bias ? A(bias[place]) : A(0));
            const A q = column ? A(column[place]) : A(level);
            const ElementLoss<A> each = element_loss<CODE>(value, A(target[at]), q, A(option));
            mine += double(share) * double(each.loss);
            gradient = share * each.gradient;
        }
        dy[at] = T(gradient);
    }
    finish_loss<ELEMENT_THREADS>(mine, partials, counter, loss, losses, clock);
}
