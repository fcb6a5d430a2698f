// What the dense layer does around its products: bias and activation forward; activation gradient and bias gradient
// backward, each in one pass.
#include "common.cuh"
#include "activation.cuh"
#include "columns.cuh"

// Blocks that a multiprocessor is to hold: all of its threads for float, half of them for double and for bfloat16, of
// which a thread takes eight at once; fewer where several quotients and exponentials are under way at once and registers
// would spill. 1280 threads keep enough loads under way.
template <typename T, int CODE>
constexpr int BLOCKS =
    Activation<CODE>::COSTLY ? (sizeof(T) == 4 && HOPPER ? 5 : 3) : (sizeof(T) == 4 ? FULL_THREADS / COLUMN_THREADS : 4);

template <typename T, int CODE, int V>
__device__ __forceinline__ void bias_activate_tiles(const T* z, const Acc<T>* bias, T* y, T* saved, i64 rows, i64 cols) {
    typedef Acc<T> A;
    for (i64 tile = blockIdx.x; tile < column_tiles<V>(cols); tile += gridDim.x) {
        const i64 column = tile_column<V>(tile);
        if (column >= cols) continue;
        A b[V];
        for (int v = 0; v < V; v++) b[v] = bias ? bias[column + v] : A(0);
        const i64 end = rows * cols, step = row_step() * cols;
#pragma unroll 1  // as it is, all registers of full occupancy are in use
        for (i64 at = first_row() * cols + column; at < end; at += step) {
            Pack<T, V> value = load<V>(z + at);
#pragma unroll
            for (int v = 0; v < V; v++) value.at[v] = T(A(value.at[v]) + b[v]);
            if (saved) store<V>(saved + at, value);
#pragma unroll
            for (int v = 0; v < V; v++) value.at[v] = T(Activation<CODE>::value(A(value.at[v])));
            store<V>(y + at, value);
        }
    }
}

// y = f(z + bias), and the pre-activation z + bias to `saved`. Arrays are (rows, cols); bias (cols,) and saved may be
// null; y or saved may be z.
template <typename T, int CODE>
__global__ void __launch_bounds__(COLUMN_THREADS, (BLOCKS<T, CODE>))
bias_activate(const T* z, const Acc<T>* bias, T* y, T* saved, i64 rows, i64 cols) {
    if (whole_vectors(z, cols) && aligned16(y) && aligned16(saved)) {
        bias_activate_tiles<T, CODE, Vector<T>::SIZE>(z, bias, y, saved, rows, cols);
    } else {
        bias_activate_tiles<T, CODE, 1>(z, bias, y, saved, rows, cols);
    }
}

template <typename T, int CODE, int V>
__device__ __forceinline__ void activation_grad_tiles(
    const T* dy, const T* saved, T* dz, Acc<T>* db, Sums<Acc<T>, 1>* partials, u32* counters, i64 rows, i64 cols
) {
    typedef Acc<T> A;
    for (i64 tile = blockIdx.x; tile < column_tiles<V>(cols); tile += gridDim.x) {
        const i64 column = tile_column<V>(tile);
        Sums<A, 1> sum[V];
        for (int v = 0; v < V; v++) sum[v].clear();
        const i64 end = column < cols ? rows * cols : 0, step = row_step() * cols;
#pragma unroll 1
        for (i64 at = first_row() * cols + column; at < end; at += step) {
            Pack<T, V> d = load<V>(dy + at);
            if (CODE != IDENTITY) {
                const Pack<T, V> s = load<V>(saved + at);
#pragma unroll
                for (int v = 0; v < V; v++) d.at[v] = T(Activation<CODE>::gradient(A(d.at[v]), A(s.at[v])));
            }
            for (int v = 0; v < V; v++) sum[v].at[0] += A(d.at[v]);
            if (CODE != IDENTITY || dz != dy) store<V>(dz + at, d);
        }
        if (db && merge_columns<Sums<A, 1>, V>(sum, tile, cols, partials, counters)) {
            for (int v = 0; v < V; v++) db[column + v] = sum[v].at[0];
        }
    }
}

// dz = dy f'(z) from what the forward pass saved, and db = the sums of dz over the rows, in an order that the grid
// alone decides. Arrays are (rows, cols), db (cols,) or null; dz may be dy; saved is not looked at for the identity.
// `partials` and `counters` are those of `merge_columns`.
template <typename T, int CODE>
__global__ void __launch_bounds__(COLUMN_THREADS, (BLOCKS<T, CODE>)) activation_grad_bias_grad(
    const T* dy, const T* saved, T* dz, Acc<T>* db, Sums<Acc<T>, 1>* partials, u32* counters, i64 rows, i64 cols
) {
    if (whole_vectors(dy, cols) && aligned16(saved) && aligned16(dz)) {
        activation_grad_tiles<T, CODE, Vector<T>::SIZE>(dy, saved, dz, db, partials, counters, rows, cols);
    } else {
        activation_grad_tiles<T, CODE, 1>(dy, saved, dz, db, partials, counters, rows, cols);
    }
}
