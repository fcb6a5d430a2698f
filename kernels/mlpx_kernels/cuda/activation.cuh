// Activations and their gradients, by code: `Activation<CODE>::value(z)` is f(z), `gradient(dy, saved)` is dy f'(z)
// from what the forward pass saved: z where SAVES_INPUT, else y. COSTLY ones divide or take several exponentials. Codes
// in the order of mlpx.ops.activation.NAMES.
#pragma once
#include "mathematics.cuh"

enum ActivationCode {
    IDENTITY, RELU, LEAKY_RELU, ELU, SELU, GELU, GELU_TANH, SILU, MISH, SOFTPLUS, SIGMOID, TANH, SOFTSIGN, HARD_SIGMOID,
    EXP,
};

constexpr double LEAKY_SLOPE = 0.01;
constexpr double SELU_ALPHA = 1.6732632423543772;
constexpr double SELU_SCALE = 1.0507009873554805;
constexpr double SQRT_HALF = 0.7071067811865476;
constexpr double NORMAL_DENSITY = 0.3989422804014327;  // 1 / sqrt(2 pi)
constexpr double TANH_GELU = 1.5957691216057308;       // 2 sqrt(2 / pi)

template <int CODE> struct Activation;

template <> struct Activation<IDENTITY> {
    static constexpr bool SAVES_INPUT = false, COSTLY = false;
    template <typename A> static __device__ __forceinline__ A value(A z) { return z; }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A) { return dy; }
};

template <> struct Activation<RELU> {
    static constexpr bool SAVES_INPUT = false, COSTLY = false;
    template <typename A> static __device__ __forceinline__ A value(A z) { return z < A(0) ? A(0) : z; }  // NaN stays
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) { return y > A(0) ? dy : A(0); }
};

template <> struct Activation<LEAKY_RELU> {
    static constexpr bool SAVES_INPUT = false, COSTLY = false;
    template <typename A> static __device__ __forceinline__ A value(A z) { return z > A(0) ? z : A(LEAKY_SLOPE) * z; }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) {
        return y > A(0) ? dy : A(LEAKY_SLOPE) * dy;
    }
};

template <> struct Activation<ELU> {
    static constexpr bool SAVES_INPUT = false, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A value(A z) { return z > A(0) ? z : maths::expm1(z); }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) {
        return y > A(0) ? dy : dy * (y + A(1));
    }
};

template <> struct Activation<SELU> {
    static constexpr bool SAVES_INPUT = false, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A value(A z) {
        return z > A(0) ? A(SELU_SCALE) * z : A(SELU_SCALE * SELU_ALPHA) * maths::expm1(z);
    }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) {
        return y > A(0) ? A(SELU_SCALE) * dy : dy * (y + A(SELU_SCALE * SELU_ALPHA));
    }
};

template <> struct Activation<GELU> {
    static constexpr bool SAVES_INPUT = true, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A value(A z) {
        return A(0.5) * z * (A(1) + maths::erf(z * A(SQRT_HALF)));
    }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A z) {
        const A cdf = A(0.5) * (A(1) + maths::erf(z * A(SQRT_HALF)));
        return dy * (cdf + z * (A(NORMAL_DENSITY) * maths::exp(A(-0.5) * z * z)));
    }
};

template <> struct Activation<GELU_TANH> {  // (1 + tanh u) / 2 = sigmoid(2 u) loses no digits where tanh is near -1
    static constexpr bool SAVES_INPUT = true, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A twice_u(A z) {
        return A(TANH_GELU) * (z + A(0.044715) * z * z * z);
    }
    template <typename A> static __device__ __forceinline__ A value(A z) { return z * maths::sigmoid(twice_u(z)); }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A z) {
        const A v = twice_u(z);
        const A slope = A(TANH_GELU) * (A(1) + A(0.134145) * z * z);
        return dy * maths::sigmoid(v) * (A(1) + z * maths::sigmoid(-v) * slope);
    }
};

template <> struct Activation<SILU> {
    static constexpr bool SAVES_INPUT = true, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A value(A z) { return z * maths::sigmoid(z); }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A z) {
        return dy * maths::sigmoid(z) * (A(1) + z * maths::sigmoid(-z));
    }
};

template <> struct Activation<MISH> {  // with e = e^z, n = e (e + 2): tanh(log(1 + e)) = n / (n + 2)
    static constexpr bool SAVES_INPUT = true, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A exp_of(A z) {
        return maths::exp(z > A(20) ? A(20) : z);  // beyond 20 the quotient is 1 to all digits
    }
    template <typename A> static __device__ __forceinline__ A value(A z) {
        const A e = exp_of(z), n = e * (e + A(2));
        return z * (n / (n + A(2)));
    }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A z) {
        const A e = exp_of(z), n = e * (e + A(2)), m = n + A(2);
        // 1 - tanh^2 = 4 (n + 1) / (n + 2)^2, in two quotients so that no square overflows
        return dy * (n / m + z * (A(4) * ((n + A(1)) / m) / m) * (e / (A(1) + e)));
    }
};

template <> struct Activation<SOFTPLUS> {
    static constexpr bool SAVES_INPUT = false, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A value(A z) { return maths::softplus(z); }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) { return dy * -maths::expm1(-y); }
};

template <> struct Activation<SIGMOID> {
    static constexpr bool SAVES_INPUT = false, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A value(A z) { return maths::sigmoid(z); }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) { return dy * (y * (A(1) - y)); }
};

template <> struct Activation<TANH> {
    static constexpr bool SAVES_INPUT = false, COSTLY = false;
    template <typename A> static __device__ __forceinline__ A value(A z) { return maths::tanh(z); }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) { return dy * (A(1) - y * y); }
};

template <> struct Activation<SOFTSIGN> {
    static constexpr bool SAVES_INPUT = false, COSTLY = true;
    template <typename A> static __device__ __forceinline__ A value(A z) { return z / (A(1) + maths::abs(z)); }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) {
        const A q = A(1) - maths::abs(y);
        return dy * (q * q);
    }
};

template <> struct Activation<HARD_SIGMOID> {
    static constexpr bool SAVES_INPUT = false, COSTLY = false;
    template <typename A> static __device__ __forceinline__ A value(A z) {
        const A v = z * A(1.0 / 6.0) + A(0.5);
        return v < A(0) ? A(0) : (v > A(1) ? A(1) : v);
    }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) {
        return y > A(0) && y < A(1) ? dy * A(1.0 / 6.0) : A(0);
    }
};

template <> struct Activation<EXP> {
    static constexpr bool SAVES_INPUT = false, COSTLY = false;
    template <typename A> static __device__ __forceinline__ A value(A z) { return maths::exp(z); }
    template <typename A> static __device__ __forceinline__ A gradient(A dy, A y) { return dy * y; }
};
