// Softmax cross-entropy with its gradient: logits read once, gradients written once, all weights and masks inside.
#include "common.cuh"
#include "loss.cuh"
#include "rows.cuh"
#include "targets.cuh"

constexpr int TOTAL_THREADS = 256;

// The normaliser of the loss: the sum of the row weights, times the class weights of the targets where there are some.
// Rows that allow nothing weigh nothing. A warp per row where a row has to be looked at, else a thread.
template <typename T>
__global__ void __launch_bounds__(TOTAL_THREADS) total_weight(
    const i64* labels, const T* dense, const T* sample_weight, const T* class_weight, const u8* mask, double* total,
    double* partials, u32* counter, i64 rows, i64 cols
) {
    const Targets<T> targets = {labels, dense, class_weight, mask, cols};
    const bool wide = mask || (class_weight && !labels);
    const int width = wide ? WARP : 1, lane = threadIdx.x % width;
    const i64 step = (i64)gridDim.x * TOTAL_THREADS / width;
    double mine = 0.0;
    for (i64 row = ((i64)blockIdx.x * TOTAL_THREADS + threadIdx.x) / width; row < rows; row += step) {
        const double w = sample_weight ? double(sample_weight[row]) : 1.0;
        const i64 label = targets.label(row);
        double share = class_weight ? 0.0 : 1.0;
        bool any = !mask;
        if (class_weight && labels) share = targets.outside(label) ? double(maths::nan()) : double(class_weight[label]);
        if (wide) {
            for (i64 column = lane; column < cols; column += WARP) {
                any |= targets.allowed(row, column);
                if (class_weight && !labels) share += double(targets.target(row, column, label) * class_weight[column]);
            }
            any = __any_sync(ALL_LANES, any);
            if (class_weight && !labels) share = warp_sum(share);
        }
        if (lane == 0 && any && (w > 0.0 || !class_weight)) mine += w * share;
    }
    if (sum_over_grid<TOTAL_THREADS>(mine, partials, counter)) *total = mine;
}

// Threads and blocks that a multiprocessor is to hold: as many as spill no registers.
template <typename T, int ITEMS, bool PLAIN>
constexpr int RESIDENT = (PLAIN ? (ITEMS > 4 ? 1536 : FULL_THREADS) : 1024) * 4 / (int)sizeof(T);
template <typename T, int GROUP, int ITEMS, bool PLAIN>
constexpr int BLOCKS = RESIDENT<T, ITEMS, PLAIN> < ROW_THREADS<GROUP> ? 1
                                                                      : RESIDENT<T, ITEMS, PLAIN> / ROW_THREADS<GROUP>;

// loss = sum_i r_i l_i / R and dz = its gradient, for the logits z + bias; see mlpx.ops.softmax_cross_entropy. Rows are
// held in registers, so cols is at most GROUP * ITEMS. PLAIN: class numbers, neither class weights nor mask nor
// smoothing; then, with a `ceiling` below infinity, the loss (not the gradient) is that of probabilities clipped to
// [exp(-ceiling), 1 - exp(-ceiling)]. bias, sample_weight, class_weight and mask may be null, dz may be z; `total` is R,
// null where that is the number of rows.
template <typename T, int GROUP, int ITEMS, bool PLAIN>
__global__ void __launch_bounds__(ROW_THREADS<GROUP>, (BLOCKS<T, GROUP, ITEMS, PLAIN>))
softmax_cross_entropy(
    const T* z, const T* bias, const i64* labels, const T* dense, const T* sample_weight, const T* class_weight,
    const u8* mask, double smoothing, double ceiling, const double* total, T* dz, T* loss, double* losses,
    Clock* clock, double* partials, u32* counter, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    const Targets<T> targets = {labels, dense, class_weight, mask, cols};
    const bool vectors = cols % Vector<T>::SIZE == 0 && aligned16(z) && aligned16(dz) && aligned16(bias)
        && (PLAIN || aligned16(dense));
    const A inverse_total = A(reciprocal_weight(total, rows));
    const i64 first = (i64)blockIdx.x * ROWS_PER_BLOCK<GROUP>, step = (i64)gridDim.x * ROWS_PER_BLOCK<GROUP>;
    double mine = 0.0;
    for (i64 base = first; base < rows; base += step) {
        const i64 given = base + threadIdx.x / GROUP, row = given < rows ? given : rows - 1;
        const Places<T, GROUP> places(given < rows ? cols : 0, vectors);
        const i64 label = targets.label(row);
        A share = (sample_weight ? A(sample_weight[row]) : A(1)) * inverse_total;
        A at[ITEMS], q[ITEMS], q_sum = A(1);
        u32 allowed = 0;
        places.load(z + row * cols, at);
        if (bias) {
#pragma unroll
            for (int k = 0; k < ITEMS; k++) {
                if (places.column(k) < places.cols) at[k] += A(bias[places.column(k)]);
            }
        }
        int count = places.cols;
        if (!PLAIN) {
            if (!labels) places.load(dense + row * cols, q);
#pragma unroll
            for (int k = 0; k < ITEMS; k++) {
                const int column = places.column(k);
                if (column < places.cols && targets.allowed(row, column)) allowed |= 1u << k;
            }
            if (mask) count = group_sum<GROUP>(__popc(allowed));
            q_sum = A(0);
#pragma unroll
            for (int k = 0; k < ITEMS; k++) {
                const int column = places.column(k);
                if (column >= places.cols) {
                    q[k] = A(0);
                    continue;
                }
                if (labels) q[k] = targets.target(row, column, label);
                if (smoothing != 0.0) {
                    const A spread = allowed >> k & 1u ? A(smoothing) / A(count) : A(0);
                    q[k] = A(1.0 - smoothing) * q[k] + spread;
                }
                q[k] *= targets.weight(column);
                q_sum += q[k];
            }
            q_sum = group_sum<GROUP>(q_sum);
        }
        A top = A(-INFINITY);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            const bool in = PLAIN ? places.column(k) < places.cols : allowed >> k & 1u;
            if (in) top = at[k] > top ? at[k] : top;
        }
        top = group_max<GROUP>(top);
        A partition = A(0), nll = A(0);  // of the elements of this thread: sums of e, of -q (z - top)
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            const bool in = PLAIN ? places.column(k) < places.cols : allowed >> k & 1u;
            const A shifted = in ? at[k] - top : A(-INFINITY);
            if (PLAIN ? places.column(k) == label : q[k] != A(0)) nll -= (PLAIN ? A(1) : q[k]) * shifted;
            at[k] = in ? maths::exp(shifted) : A(0);
            partition += at[k];
        }
        partition = group_sum<GROUP>(partition);
        const bool counts = share > A(0) && count > 0;
        if (PLAIN && targets.outside(label)) share = A(maths::nan());
        if (places.lane == 0 && q_sum != A(0)) nll += q_sum * maths::log(partition);
        if (PLAIN && ceiling < double(INFINITY)) {  // of the whole row, in one thread
            nll = between(group_sum<GROUP>(nll), ceiling);
            if (places.lane != 0) nll = A(0);
        }
        if (counts) {
            mine += double(share) * double(nll);
        }
        const A wide = (PLAIN ? share : q_sum) / partition;
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            if (PLAIN) {
                at[k] = counts ? at[k] * wide - (places.column(k) == label ? share : A(0)) : A(0);
            } else {
                at[k] = counts && allowed >> k & 1u ? share * (at[k] * wide - q[k]) : A(0);
            }
        }
        places.store(dz + row * cols, at);
    }
    finish_loss<ROW_THREADS<GROUP>>(mine, partials, counter, loss, losses, clock);
}

// The same for rows of any length: a block per row, which reads the logits twice.
template <typename T, int GROUP>
__global__ void __launch_bounds__(GROUP, 1) softmax_cross_entropy_long(
    const T* z, const T* bias, const i64* labels, const T* dense, const T* sample_weight, const T* class_weight,
    const u8* mask, double smoothing, double ceiling, const double* total, T* dz, T* loss, double* losses,
    Clock* clock, double* partials, u32* counter, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    const Targets<T> targets = {labels, dense, class_weight, mask, cols};
    const double inverse_total = reciprocal_weight(total, rows);
    double mine = 0.0;
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const i64 label = targets.label(row);
        const double w = sample_weight ? double(sample_weight[row]) : 1.0;
        const T* logits = z + row * cols;
        Partition<A> partition;
        int count = 0;
        A target_sum = A(0), spread_sum = A(0);  // the sums of what q is made of
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            const bool in = targets.allowed(row, column);
            if (in) partition.add(A(logits[column]) + (bias ? A(bias[column]) : A(0)));
            count += in;
            target_sum += targets.target(row, column, label) * targets.weight(column);
            spread_sum += in ? targets.weight(column) : A(0);
        }
        partition.template merge<GROUP>();
        count = group_sum<GROUP>(count);
        const A share = A(w * inverse_total), keep = A(1.0 - smoothing);
        const A spread = A(smoothing) / A(count > 0 ? count : 1);
        const A q_sum = group_sum<GROUP>(keep * target_sum + spread * spread_sum);
        const A log_partition = maths::log(partition.sum), wide = q_sum / partition.sum;
        const bool counts = w > 0.0 && count > 0;
        A nll = A(0);  // of the columns of this thread
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            const bool in = targets.allowed(row, column);
            const A x = in ? A(logits[column]) + (bias ? A(bias[column]) : A(0)) : A(-INFINITY);
            const A q = (keep * targets.target(row, column, label) + (in ? spread : A(0))) * targets.weight(column);
            const A shifted = x - partition.top;
            if (q != A(0)) nll += q * (log_partition - shifted);
            dz[row * cols + column] = T(counts && in ? share * (maths::exp(shifted) * wide - q) : A(0));
        }
        if (ceiling < double(INFINITY)) {
            nll = between(group_sum<GROUP>(nll), ceiling);
            if (threadIdx.x != 0) nll = A(0);
        }
        if (counts) mine += double(share) * double(nll);
    }
    finish_loss<GROUP>(mine, partials, counter, loss, losses, clock);
}
