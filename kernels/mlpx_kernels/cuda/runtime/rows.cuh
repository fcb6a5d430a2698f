// Rows held in registers: a group of GROUP threads (a part of a warp, a warp, or a block) takes a row of up to
// GROUP * ITEMS elements, reads each of them once, and meets over its maximum and its sums.
#pragma once
#include "mathematics.cuh"

// Threads of a block: as many groups as fit in 256 threads, or one.
template <int GROUP> constexpr int ROW_THREADS = GROUP <= WARP ? 256 : GROUP;
template <int GROUP> constexpr int ROWS_PER_BLOCK = ROW_THREADS<GROUP> / GROUP;

struct Larger {
    template <typename A> __device__ __forceinline__ A operator()(A a, A b) const { return b > a ? b : a; }
};
struct Plus {
    template <typename A> __device__ __forceinline__ A operator()(A a, A b) const { return a + b; }
};

// Merges a value over the group, in an order that GROUP alone decides; every thread gets the result.
template <int GROUP, typename A, typename Merge>
__device__ __forceinline__ A group_merge(A value, Merge merge) {
#pragma unroll
    for (int lane = (GROUP < WARP ? GROUP : WARP) / 2; lane > 0; lane /= 2) {
        value = merge(value, __shfl_xor_sync(ALL_LANES, value, lane));
    }
    if constexpr (GROUP > WARP) {
        constexpr int WARPS = GROUP / WARP;
        __shared__ A parts[WARPS];
        __syncthreads();  // the parts of an earlier call have been read
        if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = value;
        __syncthreads();
        value = parts[threadIdx.x % WARPS];
#pragma unroll
        for (int lane = WARPS / 2; lane > 0; lane /= 2) value = merge(value, __shfl_xor_sync(ALL_LANES, value, lane));
    }
    return value;
}
template <int GROUP, typename A> __device__ __forceinline__ A group_sum(A v) { return group_merge<GROUP>(v, Plus()); }
template <int GROUP, typename A> __device__ __forceinline__ A group_max(A v) { return group_merge<GROUP>(v, Larger()); }

// Where a thread's elements lie in its row: in vectors of 16 bytes, if every array of the row allows it. A row of no
// columns, for groups beyond the last row, is neither read nor written.
template <typename T, int GROUP> struct Places {
    static constexpr int V = Vector<T>::SIZE;
    int lane, cols;
    bool vectors;

    __device__ __forceinline__ Places(i64 cols, bool vectors)
        : lane(threadIdx.x % GROUP), cols((int)cols), vectors(vectors) {}

    __device__ __forceinline__ int column(int k) const {
        return vectors ? (k / V * GROUP + lane) * V + k % V : k * GROUP + lane;
    }

    template <int ITEMS>
    __device__ __forceinline__ void load(const T* row, Acc<T> (&at)[ITEMS], Acc<T> outside = Acc<T>(0)) const {
        static_assert(ITEMS % V == 0, "whole vectors");
        if (vectors) {
#pragma unroll
            for (int k = 0; k < ITEMS; k += V) {
                if (column(k) < cols) {
                    const Vector<T> some = *(const Vector<T>*)(row + column(k));
#pragma unroll
                    for (int v = 0; v < V; v++) at[k + v] = Acc<T>(some.at[v]);
                } else {
#pragma unroll
                    for (int v = 0; v < V; v++) at[k + v] = outside;
                }
            }
        } else {
#pragma unroll
            for (int k = 0; k < ITEMS; k++) at[k] = column(k) < cols ? Acc<T>(row[column(k)]) : outside;
        }
    }

    template <int ITEMS> __device__ __forceinline__ void store(T* row, const Acc<T> (&at)[ITEMS]) const {
        if (vectors) {
#pragma unroll
            for (int k = 0; k < ITEMS; k += V) {
                if (column(k) < cols) {
                    Vector<T> some;
#pragma unroll
                    for (int v = 0; v < V; v++) some.at[v] = T(at[k + v]);
                    *(Vector<T>*)(row + column(k)) = some;
                }
            }
        } else {
#pragma unroll
            for (int k = 0; k < ITEMS; k++) {
                if (column(k) < cols) row[column(k)] = T(at[k]);
            }
        }
    }
};

// The largest element of a row and the sum of exp(element - largest), gathered one element at a time and then merged
// over a block of GROUP threads: for rows too long to hold, which are read twice. A row that holds NaN or +inf, or
// nothing but -inf, makes the sum NaN or leaves the largest at -inf, so that probabilities come out NaN.
// Source: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax".
template <typename A> struct Partition {
    A top, sum;

    __device__ __forceinline__ Partition() : top(-INFINITY), sum(0) {}

    __device__ __forceinline__ void add(A x) {
        if (x > top) {
            sum = sum * maths::exp(top - x) + A(1) + (x - x);
            top = x;
        } else if (x != A(-INFINITY)) {
            sum += maths::exp(x - top);
        }
    }

    template <int GROUP> __device__ __forceinline__ void merge() {
        const A all = group_max<GROUP>(top);
        sum = group_sum<GROUP>(top == A(-INFINITY) ? sum : sum * maths::exp(top - all));
        top = all;
    }
};
