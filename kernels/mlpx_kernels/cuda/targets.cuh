// Class numbers or probabilities, with class weights and a mask, one element at a time.
#pragma once
#include "mathematics.cuh"

// The targets of a batch. `labels` (rows,) or `dense` (rows, cols) is given; class weights (cols,) and mask
// (rows, cols) may be null. A label outside the classes makes its row NaN.
template <typename T> struct Targets {
    typedef Acc<T> A;
    const i64* labels;
    const T* dense;
    const T* class_weight;
    const u8* mask;
    i64 cols;

    __device__ __forceinline__ i64 label(i64 row) const { return labels ? labels[row] : 0; }
    __device__ __forceinline__ bool outside(i64 label) const { return labels && (label < 0 || label >= cols); }
    __device__ __forceinline__ bool allowed(i64 row, i64 column) const { return !mask || mask[row * cols + column]; }
    __device__ __forceinline__ A weight(i64 column) const { return class_weight ? A(class_weight[column]) : A(1); }
    __device__ __forceinline__ A target(i64 row, i64 column, i64 label) const {
        if (!labels) return A(dense[row * cols + column]);
        return outside(label) ? A(maths::nan()) : A(label == column);
    }
};
