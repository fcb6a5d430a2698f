// Focal loss of the softmax with its gradient; the shape of loss.cu, without class weights and smoothing.
#include "common.cuh"
#include "loss.cuh"
#include "rows.cuh"
#include "targets.cuh"

// What a target t gives at a probability p: its loss -t (1 - p)^f log p, and t (1 - p)^f (f p log p / (1 - p) - 1),
// which is p times its derivative. Both have limits at p = 0 and p = 1.
template <typename A> struct Focal {
    A loss, slope;
    __device__ __forceinline__ Focal(A target, A log_p, A focus) : loss(0), slope(0) {
        if (target == A(0)) return;
        const A p = maths::exp(log_p), rest = -maths::expm1(log_p);
        const A easy = focus > A(0) ? maths::power(rest, focus) : A(1);
        A limit = p > A(0) ? A(-1) : A(0) * p;
        if (p > A(0) && rest > A(0)) limit = p * log_p / rest;
        loss = -target * easy * log_p;
        slope = target * easy * (focus * limit - A(1));
    }
};

// loss = sum_i r_i l_i / R and dz = its gradient, for the logits z + bias; see mlpx.ops.softmax_focal. Rows are held in
// registers, so cols is at most GROUP * ITEMS. The other arguments are those of softmax_cross_entropy in loss.cu.
template <typename T, int GROUP, int ITEMS>
__global__ void __launch_bounds__(ROW_THREADS<GROUP>, at_least_one(4096 / (int)sizeof(T) / ROW_THREADS<GROUP>))
softmax_focal(
    const T* z, const T* bias, const i64* labels, const T* dense, const T* sample_weight, const u8* mask, double focus,
    const double* total, T* dz, T* loss, double* losses, Clock* clock, double* partials, u32* counter, i64 rows,
    i64 cols
) {
    typedef Acc<T> A;
    const Targets<T> targets = {labels, dense, nullptr, mask, cols};
    const bool vectors = cols % Vector<T>::SIZE == 0 && aligned16(z) && aligned16(dz) && aligned16(dense);
    const A inverse_total = A(reciprocal_weight(total, rows));
    const i64 first = (i64)blockIdx.x * ROWS_PER_BLOCK<GROUP>, step = (i64)gridDim.x * ROWS_PER_BLOCK<GROUP>;
    double mine = 0.0;
#pragma unroll 1
    for (i64 base = first; base < rows; base += step) {
        const i64 given = base + threadIdx.x / GROUP, row = given < rows ? given : rows - 1;
        const Places<T, GROUP> places(given < rows ? cols : 0, vectors);
        const i64 label = targets.label(row);
        const A share = (sample_weight ? A(sample_weight[row]) : A(1)) * inverse_total;
        A at[ITEMS], g[ITEMS];  // logits, then logarithms of probabilities; targets, then slopes
        A top = A(-INFINITY);
        u32 allowed = 0;
        places.load(z + row * cols, at);
        if (!labels) places.load(dense + row * cols, g);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            const int column = places.column(k);
            const bool inside = column < places.cols;
            if (labels) g[k] = inside ? targets.target(row, column, label) : A(0);
            if (inside && bias) at[k] += A(bias[column]);
            if (inside && targets.allowed(row, column)) {
                allowed |= 1u << k;
                top = at[k] > top ? at[k] : top;
            }
        }
        const int count = mask ? group_sum<GROUP>(__popc(allowed)) : places.cols;
        top = group_max<GROUP>(top);
        A partition = A(0), g_sum = A(0), each = A(0);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            at[k] = allowed >> k & 1u ? at[k] - top : A(-INFINITY);
            if (allowed >> k & 1u) partition += maths::exp(at[k]);
        }
        const A log_partition = maths::log(group_sum<GROUP>(partition));
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            at[k] -= log_partition;
            const Focal<A> focal(g[k], at[k], A(focus));
            each += focal.loss;
            g[k] = focal.slope;
            g_sum += g[k];
        }
        g_sum = group_sum<GROUP>(g_sum);
        const bool counts = share > A(0) && count > 0;
        if (counts) mine += double(share) * double(each);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            at[k] = counts && allowed >> k & 1u ? share * (g[k] - maths::exp(at[k]) * g_sum) : A(0);
        }
        places.store(dz + row * cols, at);
    }
    finish_loss<ROW_THREADS<GROUP>>(mine, partials, counter, loss, losses, clock);
}

// The same for rows of any length: a block per row, which reads the logits three times.
template <typename T, int GROUP>
__global__ void __launch_bounds__(GROUP, 1) softmax_focal_long(
    const T* z, const T* bias, const i64* labels, const T* dense, const T* sample_weight, const u8* mask, double focus,
    const double* total, T* dz, T* loss, double* losses, Clock* clock, double* partials, u32* counter, i64 rows,
    i64 cols
) {
    typedef Acc<T> A;
    const Targets<T> targets = {labels, dense, nullptr, mask, cols};
    const A inverse_total = A(reciprocal_weight(total, rows));
    double mine = 0.0;
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const i64 label = targets.label(row), start = row * cols;
        const A share = (sample_weight ? A(sample_weight[row]) : A(1)) * inverse_total;
        Partition<A> partition;
        int any = 0;
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            if (!targets.allowed(row, column)) continue;
            any = 1;
            partition.add(A(z[start + column]) + (bias ? A(bias[column]) : A(0)));
        }
        partition.template merge<GROUP>();
        const bool counts = share > A(0) && group_max<GROUP>(any);
        const A shift = partition.top + maths::log(partition.sum);
        A g_sum = A(0), each = A(0);
        for (int pass = 0; pass < 2; pass++) {
            for (i64 column = threadIdx.x; column < cols; column += GROUP) {
                const bool in = targets.allowed(row, column);
                const A x = in ? A(z[start + column]) + (bias ? A(bias[column]) : A(0)) : A(-INFINITY);
                const Focal<A> focal(targets.target(row, column, label), x - shift, A(focus));
                if (pass == 0) {
                    each += focal.loss;
                    g_sum += focal.slope;
                } else {
                    dz[start + column] = T(counts && in ? share * (focal.slope - maths::exp(x - shift) * g_sum) : A(0));
                }
            }
            if (pass == 0) g_sum = group_sum<GROUP>(g_sum);
        }
        if (counts) mine += double(share) * double(each);
    }
    finish_loss<GROUP>(mine, partials, counter, loss, losses, clock);
}
