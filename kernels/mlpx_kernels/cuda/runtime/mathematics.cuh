// Elementary functions by one name for float and double, and the stable forms made of them. No fast-math: NaN and
// infinities keep their meaning.
#pragma once
#include "common.cuh"

namespace maths {
__device__ __forceinline__ float nan() { return __int_as_float(0x7fc00000); }
__device__ __forceinline__ float exp(float x) { return ::expf(x); }
__device__ __forceinline__ double exp(double x) { return ::exp(x); }
__device__ __forceinline__ float expm1(float x) { return ::expm1f(x); }
__device__ __forceinline__ double expm1(double x) { return ::expm1(x); }
__device__ __forceinline__ float log(float x) { return ::logf(x); }
__device__ __forceinline__ double log(double x) { return ::log(x); }
__device__ __forceinline__ float log1p(float x) { return ::log1pf(x); }
__device__ __forceinline__ double log1p(double x) { return ::log1p(x); }
__device__ __forceinline__ float tanh(float x) { return ::tanhf(x); }
__device__ __forceinline__ double tanh(double x) { return ::tanh(x); }
__device__ __forceinline__ float erf(float x) { return ::erff(x); }
__device__ __forceinline__ double erf(double x) { return ::erf(x); }
__device__ __forceinline__ float sqrt(float x) { return ::sqrtf(x); }
__device__ __forceinline__ double sqrt(double x) { return ::sqrt(x); }
__device__ __forceinline__ float abs(float x) { return ::fabsf(x); }
__device__ __forceinline__ double abs(double x) { return ::fabs(x); }

__device__ __forceinline__ float power(float x, float y) { return ::powf(x, y); }
__device__ __forceinline__ double power(double x, double y) { return ::pow(x, y); }

// A product that no sum takes into itself: rounded before it is used.
__device__ __forceinline__ float rounded_product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double rounded_product(double a, double b) { return __dmul_rn(a, b); }

template <typename A> __device__ __forceinline__ A sigmoid(A z) {
    const A e = exp(-abs(z));  // never overflows
    return (z < A(0) ? e : A(1)) / (A(1) + e);
}

template <typename A> __device__ __forceinline__ A softplus(A z) {
    return log1p(exp(-abs(z))) + (z < A(0) ? A(0) : z);
}

template <typename A> __device__ __forceinline__ bool finite(A x) { return x - x == A(0); }
}  // namespace maths
