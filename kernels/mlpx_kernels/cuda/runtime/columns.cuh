// Work on a (rows, cols) array by tiles: a block's x walks over columns, its y over rows, and what belongs to a column
// (a bias, a sum) stays in a thread's registers. blockDim.x and blockDim.y are powers of two, at most COLUMN_THREADS
// in all; any grid does, and each thread takes V neighbouring columns.
#pragma once
#include "common.cuh"

constexpr int COLUMN_THREADS = 256;

template <typename T, int V> struct alignas(sizeof(T) * V) Pack { T at[V]; };

template <int V, typename T> __device__ __forceinline__ Pack<T, V> load(const T* p) { return *(const Pack<T, V>*)p; }
template <int V, typename T> __device__ __forceinline__ void store(T* p, const Pack<T, V>& values) {
    *(Pack<T, V>*)p = values;
}

// Whether every row of a (…, cols) array that begins at p starts on 16 bytes. A null p does.
template <typename T> __device__ __forceinline__ bool whole_vectors(const T* p, i64 cols) {
    return cols % Vector<T>::SIZE == 0 && aligned16(p);
}

__device__ __forceinline__ i64 first_row() { return (i64)blockIdx.y * blockDim.y + threadIdx.y; }
__device__ __forceinline__ i64 row_step() { return (i64)gridDim.y * blockDim.y; }
template <int V> __device__ __forceinline__ i64 column_tiles(i64 cols) {
    const i64 width = (i64)blockDim.x * V;
    return (cols + width - 1) / width;
}
template <int V> __device__ __forceinline__ i64 tile_column(i64 tile) {
    return (tile * blockDim.x + threadIdx.x) * V;
}

// What is merged over the rows of a column: a trivial type with `clear()` and `merge(other)`.
template <typename A, int N> struct Sums {
    A at[N];
    __device__ __forceinline__ void clear() {
        for (int i = 0; i < N; i++) at[i] = A(0);
    }
    __device__ __forceinline__ void merge(const Sums& other) {
        for (int i = 0; i < N; i++) at[i] += other.at[i];
    }
};

template <typename State, int V> __device__ __forceinline__ void merge_rows_of_block(State (&state)[V]) {
    __shared__ State shared[COLUMN_THREADS * V];
    State* mine = shared + (threadIdx.y * blockDim.x + threadIdx.x) * V;
    __syncthreads();  // an earlier tile's states have been read
    for (int v = 0; v < V; v++) mine[v] = state[v];
    for (u32 half = blockDim.y / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.y < half) {
            for (int v = 0; v < V; v++) {
                state[v].merge(mine[half * blockDim.x * V + v]);
                mine[v] = state[v];
            }
        }
    }
}

// Merges the states of all threads, in all blocks of this column tile, that hold the columns from `column` on, in an
// order that the grid alone decides. Returns true in the threads (y = 0, of one block) that then hold the result.
// All threads of the block call it. `partials` holds gridDim.y * cols states and `counters` one zero per column tile;
// neither is looked at where gridDim.y is 1.
template <typename State, int V>
__device__ __forceinline__ bool merge_columns(State (&state)[V], i64 tile, i64 cols, State* partials, u32* counters) {
    const i64 column = tile_column<V>(tile);
    merge_rows_of_block(state);
    if (gridDim.y > 1) {
        if (threadIdx.y == 0 && column < cols) {
            for (int v = 0; v < V; v++) partials[blockIdx.y * cols + column + v] = state[v];
        }
        if (!last_block(counters + tile, gridDim.y)) return false;
        for (int v = 0; v < V; v++) state[v].clear();
        if (column < cols) {
            for (u32 part = threadIdx.y; part < gridDim.y; part += blockDim.y) {
                for (int v = 0; v < V; v++) state[v].merge(partials[part * cols + column + v]);
            }
        }
        merge_rows_of_block(state);
    }
    return threadIdx.y == 0 && column < cols;
}
