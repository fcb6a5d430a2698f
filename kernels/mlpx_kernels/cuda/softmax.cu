// Row-wise softmax, its masked form and its logarithm, and their gradients. Every element is read once and written once
// in rows of up to 8192, which are held in registers; longer rows are read twice.
#include "common.cuh"
#include "rows.cuh"

enum SoftmaxKind { PLAIN, MASKED, LOGARITHM };

// Blocks that a multiprocessor is to hold: half as many for double, whose rows take more registers.
template <typename T, int GROUP>
constexpr int SOFTMAX_BLOCKS = (sizeof(T) == 8 ? 1024 : FULL_THREADS) / ROW_THREADS<GROUP>;

// Which of a thread's elements a mask allows: bit k for element k.
template <int ITEMS, typename P> __device__ __forceinline__ u32 allowed_by(const u8* mask_row, const P& places) {
    u32 bits = 0;
#pragma unroll
    for (int k = 0; k < ITEMS; k++) {
        if (places.column(k) < places.cols && mask_row[places.column(k)]) bits |= 1u << k;
    }
    return bits;
}

// y = softmax(x) for arrays (rows, cols), cols at most GROUP * ITEMS; see mlpx.ops.softmax. `mask` is looked at where
// KIND is MASKED: what it does not allow is never computed with. y may be x.
template <typename T, int KIND, int GROUP, int ITEMS>
__global__ void __launch_bounds__(ROW_THREADS<GROUP>, (SOFTMAX_BLOCKS<T, GROUP>))
softmax(const T* x, const u8* mask, T* y, i64 rows, i64 cols) {
    typedef Acc<T> A;
    const bool vectors = cols % Vector<T>::SIZE == 0 && aligned16(x) && aligned16(y);
    const i64 step = (i64)gridDim.x * ROWS_PER_BLOCK<GROUP>;
#pragma unroll 1
    for (i64 base = (i64)blockIdx.x * ROWS_PER_BLOCK<GROUP>; base < rows; base += step) {
        const i64 row = base + threadIdx.x / GROUP;
        const Places<T, GROUP> places(row < rows ? cols : 0, vectors);
        A at[ITEMS], top = A(-INFINITY), sum = A(0);
        places.load(x + row * cols, at, A(-INFINITY));
        const u32 allowed = KIND == MASKED ? allowed_by<ITEMS>(mask + row * cols, places) : ~0u;
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            if (KIND != MASKED || allowed >> k & 1u) top = at[k] > top ? at[k] : top;
        }
        top = group_max<GROUP>(top);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            const A e = KIND != MASKED || allowed >> k & 1u ? maths::exp(at[k] - top) : A(0);
            at[k] = KIND == LOGARITHM ? at[k] - top : e;
            sum += e;
        }
        sum = group_sum<GROUP>(sum);
        if (KIND == LOGARITHM) {
            const A shift = maths::log(sum);
#pragma unroll
            for (int k = 0; k < ITEMS; k++) at[k] -= shift;
        } else {
            // A sum of 0 is that of a row that allows nothing, for the largest element adds 1 or NaN.
            const A inverse = KIND == MASKED && sum == A(0) ? A(0) : A(1) / sum;
#pragma unroll
            for (int k = 0; k < ITEMS; k++) at[k] *= inverse;
        }
        places.store(y + row * cols, at);
    }
}

// The same for rows of any length, a block each.
template <typename T, int KIND, int GROUP>
__global__ void __launch_bounds__(GROUP) softmax_long(const T* x, const u8* mask, T* y, i64 rows, i64 cols) {
    typedef Acc<T> A;
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* from = x + row * cols;
        const u8* allowed = KIND == MASKED ? mask + row * cols : (const u8*)0;
        Partition<A> partition;
        int any = 0;
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            if (KIND == MASKED && !allowed[column]) continue;
            any = 1;
            partition.add(A(from[column]));
        }
        partition.template merge<GROUP>();
        any = group_max<GROUP>(any);
        const A inverse = A(1) / partition.sum, shift = maths::log(partition.sum);
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            A value = A(0);
            if (KIND == LOGARITHM) {
                value = A(from[column]) - partition.top - shift;
            } else if (any && (KIND != MASKED || allowed[column])) {
                value = maths::exp(A(from[column]) - partition.top) * inverse;
            }
            y[row * cols + column] = T(value);
        }
    }
}

// One element of the gradient, and its part of the sum that all elements of its row need.
template <int KIND, typename A> __device__ __forceinline__ A part_of_sum(A dy, A y) {
    return KIND == LOGARITHM ? dy : dy * y;
}
template <int KIND, typename A> __device__ __forceinline__ A gradient_of(A dy, A y, A sum) {
    return KIND == LOGARITHM ? dy - maths::exp(y) * sum : y * (dy - sum);
}

// dx from dy and the output y; what the mask does not allow is 0, whatever dy holds. dx may be dy.
template <typename T, int KIND, int GROUP, int ITEMS>
__global__ void __launch_bounds__(ROW_THREADS<GROUP>, (SOFTMAX_BLOCKS<T, GROUP>))
softmax_grad(const T* dy, const T* y, const u8* mask, T* dx, i64 rows, i64 cols) {
    typedef Acc<T> A;
    const bool vectors = cols % Vector<T>::SIZE == 0 && aligned16(dy) && aligned16(y) && aligned16(dx);
    const i64 step = (i64)gridDim.x * ROWS_PER_BLOCK<GROUP>;
#pragma unroll 1
    for (i64 base = (i64)blockIdx.x * ROWS_PER_BLOCK<GROUP>; base < rows; base += step) {
        const i64 row = base + threadIdx.x / GROUP;
        const Places<T, GROUP> places(row < rows ? cols : 0, vectors);
        A d[ITEMS], p[ITEMS], sum = A(0);
        places.load(dy + row * cols, d);
        places.load(y + row * cols, p);
        const u32 allowed = KIND == MASKED ? allowed_by<ITEMS>(mask + row * cols, places) : ~0u;
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            if (KIND != MASKED || allowed >> k & 1u) sum += part_of_sum<KIND>(d[k], p[k]);
        }
        sum = group_sum<GROUP>(sum);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            d[k] = KIND != MASKED || allowed >> k & 1u ? gradient_of<KIND>(d[k], p[k], sum) : A(0);
        }
        places.store(dx + row * cols, d);
    }
}

template <typename T, int KIND, int GROUP>
__global__ void __launch_bounds__(GROUP)
softmax_grad_long(const T* dy, const T* y, const u8* mask, T* dx, i64 rows, i64 cols) {
    typedef Acc<T> A;
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const i64 start = row * cols;
        A sum = A(0);
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            if (KIND == MASKED && !mask[start + column]) continue;
            sum += part_of_sum<KIND>(A(dy[start + column]), A(y[start + column]));
        }
        sum = group_sum<GROUP>(sum);
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            const bool in = KIND != MASKED || mask[start + column];
            const A d = in ? A(dy[start + column]) : A(0);
            dx[start + column] = T(in ? gradient_of<KIND>(d, A(y[start + column]), sum) : A(0));
        }
    }
}
