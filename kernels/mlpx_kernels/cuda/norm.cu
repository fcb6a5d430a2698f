// Layer and batch normalisation and their gradients. Layer norm holds rows in registers, as softmax does; batch norm
// and the gradients of the gains are sums over columns.
#include "common.cuh"
#include "columns.cuh"
#include "rows.cuh"

// Blocks that a multiprocessor is to hold, so that no registers spill.
template <typename T, int GROUP>
constexpr int NORM_BLOCKS = at_least_one((HOPPER ? 2048 : 1024) * 4 / int(sizeof(T)) / ROW_THREADS<GROUP>);
template <typename T, int GROUP> constexpr int NORM_GRAD_BLOCKS = at_least_one(NORM_BLOCKS<T, GROUP> / 2);

template <typename A> __device__ __forceinline__ A inverse_deviation(A var, double eps) {
    return A(1) / maths::sqrt(var + A(eps));
}

// y = gamma (x - mean) / sqrt(var + eps) + beta for rows of up to GROUP * ITEMS columns; mean and var (rows,) are
// written too.
template <typename T, int GROUP, int ITEMS>
__global__ void __launch_bounds__(ROW_THREADS<GROUP>, (NORM_BLOCKS<T, GROUP>)) layer_norm(
    const T* x, const T* gamma, const T* beta, double eps, T* y, T* mean, T* var, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    const bool vectors = cols % Vector<T>::SIZE == 0 && aligned16(x) && aligned16(y);
    const i64 step = (i64)gridDim.x * ROWS_PER_BLOCK<GROUP>;
#pragma unroll 1
    for (i64 base = (i64)blockIdx.x * ROWS_PER_BLOCK<GROUP>; base < rows; base += step) {
        const i64 row = base + threadIdx.x / GROUP;
        const Places<T, GROUP> places(row < rows ? cols : 0, vectors);
        A at[ITEMS], sum = A(0), squares = A(0);
        places.load(x + row * cols, at);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) sum += at[k];
        const A m = group_sum<GROUP>(sum) / A(cols);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            at[k] = places.column(k) < places.cols ? at[k] - m : A(0);
            squares += at[k] * at[k];
        }
        const A v = group_sum<GROUP>(squares) / A(cols), inverse = inverse_deviation(v, eps);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            const int column = places.column(k);
            if (column < places.cols) at[k] = at[k] * inverse * A(gamma[column]) + A(beta[column]);
        }
        places.store(y + row * cols, at);
        if (row < rows && places.lane == 0) {
            mean[row] = T(m);
            var[row] = T(v);
        }
    }
}

// The same for rows of any length, a block each, which reads them three times.
template <typename T, int GROUP>
__global__ void __launch_bounds__(GROUP) layer_norm_long(
    const T* x, const T* gamma, const T* beta, double eps, T* y, T* mean, T* var, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const T* from = x + row * cols;
        A sum = A(0), squares = A(0);
        for (i64 column = threadIdx.x; column < cols; column += GROUP) sum += A(from[column]);
        const A m = group_sum<GROUP>(sum) / A(cols);
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            const A centred = A(from[column]) - m;
            squares += centred * centred;
        }
        const A v = group_sum<GROUP>(squares) / A(cols), inverse = inverse_deviation(v, eps);
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            y[row * cols + column] = T((A(from[column]) - m) * inverse * A(gamma[column]) + A(beta[column]));
        }
        if (threadIdx.x == 0) {
            mean[row] = T(m);
            var[row] = T(v);
        }
    }
}

// One element of the gradient for x: (g - mean(g) - h mean(g h)) / deviation, with g = dy gamma. `g` has been rounded
// by itself, not within the difference: so a row of one feature cancels exactly.
template <typename A> __device__ __forceinline__ A centred_gradient(A g, A h, A g_mean, A gh_mean, A inverse) {
    return (g - g_mean - h * gh_mean) * inverse;
}

// dx of layer norm, from the forward call's mean and var (rows,); dx may be dy.
template <typename T, int GROUP, int ITEMS>
__global__ void __launch_bounds__(ROW_THREADS<GROUP>, (NORM_GRAD_BLOCKS<T, GROUP>)) layer_norm_grad(
    const T* dy, const T* x, const T* gamma, const T* mean, const T* var, double eps, T* dx, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    const bool vectors = cols % Vector<T>::SIZE == 0 && aligned16(dy) && aligned16(x) && aligned16(dx);
    const i64 step = (i64)gridDim.x * ROWS_PER_BLOCK<GROUP>;
#pragma unroll 1
    for (i64 base = (i64)blockIdx.x * ROWS_PER_BLOCK<GROUP>; base < rows; base += step) {
        const i64 row = base + threadIdx.x / GROUP;
        const bool there = row < rows;
        const Places<T, GROUP> places(there ? cols : 0, vectors);
        const A m = there ? A(mean[row]) : A(0), inverse = there ? inverse_deviation(A(var[row]), eps) : A(0);
        A g[ITEMS], h[ITEMS], g_sum = A(0), gh_sum = A(0);
        places.load(dy + row * cols, g);
        places.load(x + row * cols, h, m);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) {
            if (places.column(k) < places.cols) g[k] = maths::rounded_product(g[k], A(gamma[places.column(k)]));
            h[k] = (h[k] - m) * inverse;
            g_sum += g[k];
            gh_sum += g[k] * h[k];
        }
        const A g_mean = group_sum<GROUP>(g_sum) / A(cols), gh_mean = group_sum<GROUP>(gh_sum) / A(cols);
#pragma unroll
        for (int k = 0; k < ITEMS; k++) g[k] = centred_gradient(g[k], h[k], g_mean, gh_mean, inverse);
        places.store(dx + row * cols, g);
    }
}

template <typename T, int GROUP>
__global__ void __launch_bounds__(GROUP) layer_norm_grad_long(
    const T* dy, const T* x, const T* gamma, const T* mean, const T* var, double eps, T* dx, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
        const A m = A(mean[row]), inverse = inverse_deviation(A(var[row]), eps);
        A g_sum = A(0), gh_sum = A(0);
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            const A g = A(dy[row * cols + column]) * A(gamma[column]);
            g_sum += g;
            gh_sum += g * ((A(x[row * cols + column]) - m) * inverse);
        }
        const A g_mean = group_sum<GROUP>(g_sum) / A(cols), gh_mean = group_sum<GROUP>(gh_sum) / A(cols);
        for (i64 column = threadIdx.x; column < cols; column += GROUP) {
            const i64 at = row * cols + column;
            const A g = A(dy[at]) * A(gamma[column]), h = (A(x[at]) - m) * inverse;
            dx[at] = T(centred_gradient(g, h, g_mean, gh_mean, inverse));
        }
    }
}

// dgamma = sum dy h and dbeta = sum dy over the rows. The statistics are a row's (layer norm) or a column's (batch
// norm). With `dx`, which needs gamma, also dx = dy gamma / deviation: the gradient where statistics are held fixed.
template <typename T, bool OF_ROWS>
__global__ void __launch_bounds__(COLUMN_THREADS, sizeof(T) == 8 || !HOPPER ? 4 : 5) norm_gain_grad(
    const T* dy, const T* x, const T* gamma, const T* mean, const T* var, double eps, T* dx, T* dgamma, T* dbeta,
    Sums<Acc<T>, 2>* partials, u32* counters, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    for (i64 tile = blockIdx.x; tile < column_tiles<1>(cols); tile += gridDim.x) {
        const i64 column = tile_column<1>(tile);
        Sums<A, 2> sum[1];
        sum[0].clear();
        if (column < cols) {
            A m = A(0), inverse = A(0);
            if (!OF_ROWS) {
                m = A(mean[column]);
                inverse = inverse_deviation(A(var[column]), eps);
            }
            const A gain = dx ? A(gamma[column]) * inverse : A(0);
            for (i64 row = first_row(); row < rows; row += row_step()) {
                const i64 at = row * cols + column;
                if (OF_ROWS) {
                    m = A(mean[row]);
                    inverse = inverse_deviation(A(var[row]), eps);
                }
                const A d = A(dy[at]);
                sum[0].at[0] += d * ((A(x[at]) - m) * inverse);
                sum[0].at[1] += d;
                if (dx) dx[at] = T(d * gain);
            }
        }
        if (merge_columns<Sums<A, 2>, 1>(sum, tile, cols, partials, counters)) {
            dgamma[column] = T(sum[0].at[0]);
            dbeta[column] = T(sum[0].at[1]);
        }
    }
}

// Number, sum, mean and sum of squared distances from the mean, gathered one by one and merged without cancellation.
// The sum is kept beside the mean: it stays infinite where the mean, which differences make, would become NaN.
// Source: Chan, Golub and LeVeque 1983, "Algorithms for computing the sample variance".
template <typename A> struct Moments {
    A count, sum, mean, squares;
    __device__ __forceinline__ void clear() { count = sum = mean = squares = A(0); }
    __device__ __forceinline__ void add(A x, A inverse_count) {
        count += A(1);
        sum += x;
        const A off = x - mean;
        mean += off * inverse_count;
        squares += off * (x - mean);
    }
    __device__ __forceinline__ void merge(const Moments& other) {
        if (other.count == A(0)) return;
        const A all = count + other.count, share = other.count / all, off = other.mean - mean;
        mean += off * share;
        squares += other.squares + off * off * (count * share);
        sum += other.sum;
        count = all;
    }
};

// mean and var (cols,) of a batch (rows, cols); var divides by n. With running statistics, these move by `momentum`
// towards the batch's, the variance towards the one that divides by n - 1; a single row, which has none, moves nothing.
template <typename T>
__global__ void __launch_bounds__(COLUMN_THREADS, sizeof(T) == 8 || !HOPPER ? 4 : 6) batch_statistics(
    const T* x, T* mean, T* var, T* running_mean, T* running_var, double momentum, Moments<Acc<T>>* partials,
    u32* counters, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    for (i64 tile = blockIdx.x; tile < column_tiles<1>(cols); tile += gridDim.x) {
        const i64 column = tile_column<1>(tile);
        Moments<A> moments[1];
        moments[0].clear();
        if (column < cols) {
            for (i64 row = first_row(); row < rows; row += row_step()) {
                moments[0].add(A(x[row * cols + column]), A(1) / (moments[0].count + A(1)));
            }
        }
        if (merge_columns<Moments<A>, 1>(moments, tile, cols, partials, counters)) {
            const A n = rows > 0 ? A(rows) : A(1), m = moments[0].sum / n, v = moments[0].squares / n;
            mean[column] = T(m);
            var[column] = T(v);
            if (running_mean && rows > 1) {
                const A unbiased = v * (n / (n - A(1)));
                running_mean[column] += T(A(momentum) * (m - A(running_mean[column])));
                running_var[column] += T(A(momentum) * (unbiased - A(running_var[column])));
            }
        }
    }
}

// y = gamma (x - mean) / sqrt(var + eps) + beta with the statistics of the columns; y may be x.
template <typename T>
__global__ void __launch_bounds__(COLUMN_THREADS, sizeof(T) == 8 ? 4 : FULL_THREADS / COLUMN_THREADS) batch_normalise(
    const T* x, const T* gamma, const T* beta, const T* mean, const T* var, double eps, T* y, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    for (i64 column = tile_column<1>(blockIdx.x); column < cols; column += (i64)gridDim.x * blockDim.x) {
        const A m = A(mean[column]), gain = A(gamma[column]) * inverse_deviation(A(var[column]), eps);
        const A shift = A(beta[column]);
        for (i64 row = first_row(); row < rows; row += row_step()) {
            y[row * cols + column] = T((A(x[row * cols + column]) - m) * gain + shift);
        }
    }
}

// dx = gamma / deviation (dy - (dbeta + h dgamma) / n) of batch norm; dx may be dy.
template <typename T>
__global__ void __launch_bounds__(COLUMN_THREADS, sizeof(T) == 8 ? 4 : 6) batch_norm_dx(
    const T* dy, const T* x, const T* gamma, const T* mean, const T* var, const T* dgamma, const T* dbeta, double eps,
    T* dx, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    const A inverse_n = A(1) / A(rows > 0 ? rows : 1);
    for (i64 column = tile_column<1>(blockIdx.x); column < cols; column += (i64)gridDim.x * blockDim.x) {
        const A m = A(mean[column]), inverse = inverse_deviation(A(var[column]), eps);
        const A gain = A(gamma[column]) * inverse, own = A(dgamma[column]), shift = A(dbeta[column]);
        for (i64 row = first_row(); row < rows; row += row_step()) {
            const i64 at = row * cols + column;
            const A h = (A(x[at]) - m) * inverse;
            dx[at] = T(gain * (A(dy[at]) - (shift + h * own) * inverse_n));
        }
    }
}
