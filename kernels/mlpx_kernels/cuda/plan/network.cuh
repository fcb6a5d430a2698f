// What the fused forward passes of small networks share: a block takes a tile of rows through all layers, activations
// stay in shared memory, and each layer's weights come there a slice of inputs at a time.
// Source: Mueller et al. 2021, "Real-time neural radiance caching for path tracing", section 3 (fully fused networks).
#pragma once
#include "activation.cuh"

constexpr int NETWORK_THREADS = 256, NETWORK_WARPS = NETWORK_THREADS / WARP;
constexpr int TILE_ROWS = 64;        // rows of a block's tile
constexpr int MOST_WIDTH = 128;      // of any layer, the input included
constexpr int SLICE = WARP;          // inputs of a layer whose weights are in shared memory at a time

// A dense layer: y = f(x @ w.T + b). `w` and `b` are offsets into the parameters; b is -1 without a bias.
struct NetworkLayer {
    i64 n_in, n_out, w, b, kind;
};

// Rows in shared memory are longer than they need be by 16 bytes: so threads that read one column of several rows meet
// different banks.
template <typename S> constexpr int ACTIVATION_STRIDE = MOST_WIDTH + 16 / (int)sizeof(S);
template <typename S> constexpr int WEIGHT_STRIDE = SLICE + 16 / (int)sizeof(S);
template <typename S> constexpr int ACTIVATION_BYTES = TILE_ROWS * ACTIVATION_STRIDE<S> * (int)sizeof(S);
template <typename S> constexpr int WEIGHT_BYTES = MOST_WIDTH * WEIGHT_STRIDE<S> * (int)sizeof(S);

__device__ __forceinline__ int padded(i64 n, int to) { return ((int)n + to - 1) / to * to; }

template <typename A> __device__ __forceinline__ A activate(int kind, A z) {
    switch (kind) {
        case RELU: return Activation<RELU>::value(z);
        case LEAKY_RELU: return Activation<LEAKY_RELU>::value(z);
        case ELU: return Activation<ELU>::value(z);
        case SELU: return Activation<SELU>::value(z);
        case GELU: return Activation<GELU>::value(z);
        case GELU_TANH: return Activation<GELU_TANH>::value(z);
        case SILU: return Activation<SILU>::value(z);
        case MISH: return Activation<MISH>::value(z);
        case SOFTPLUS: return Activation<SOFTPLUS>::value(z);
        case SIGMOID: return Activation<SIGMOID>::value(z);
        case TANH: return Activation<TANH>::value(z);
        case SOFTSIGN: return Activation<SOFTSIGN>::value(z);
        case HARD_SIGMOID: return Activation<HARD_SIGMOID>::value(z);
        case EXP: return Activation<EXP>::value(z);
        default: return z;
    }
}

// The tile's rows of x (rows, n_in), with zeros up to a whole slice and beyond the last row. A warp per row.
template <typename S, typename T>
__device__ __forceinline__ void load_tile(const T* x, S* activations, i64 first, i64 rows, i64 n_in) {
    for (int r = threadIdx.x / WARP; r < TILE_ROWS; r += NETWORK_WARPS) {
        for (int c = threadIdx.x % WARP; c < padded(n_in, SLICE); c += WARP) {
            const T value = first + r < rows && c < n_in ? x[(first + r) * n_in + c] : T(0);
            activations[r * ACTIVATION_STRIDE<S> + c] = S(value);
        }
    }
}

// The weights of a slice of inputs, an output per row, with zeros up to 16 outputs and a whole slice.
template <typename S, typename T>
__device__ __forceinline__ void load_weights(const T* w, S* weights, const NetworkLayer& layer, int start) {
    const int input = start + threadIdx.x % SLICE;
    for (int o = threadIdx.x / SLICE; o < padded(layer.n_out, 16); o += NETWORK_WARPS) {
        const T value = o < layer.n_out && input < layer.n_in ? w[o * layer.n_in + input] : T(0);
        weights[o * WEIGHT_STRIDE<S> + input - start] = S(value);
    }
}

// Softmax of the tile's rows of y (rows, n_out), which this block has written. A warp per row.
template <typename T> __device__ __forceinline__ void softmax_tile(T* y, i64 first, i64 rows, i64 n_out) {
    const int lane = threadIdx.x % WARP;
    for (i64 row = first + threadIdx.x / WARP; row < rows && row < first + TILE_ROWS; row += NETWORK_WARPS) {
        T at[MOST_WIDTH / WARP], top = T(-INFINITY), sum = T(0);
#pragma unroll
        for (int k = 0; k < MOST_WIDTH / WARP; k++) {
            at[k] = lane + k * WARP < n_out ? y[row * n_out + lane + k * WARP] : T(-INFINITY);
            top = at[k] > top ? at[k] : top;
        }
        top = warp_max(top);
#pragma unroll
        for (int k = 0; k < MOST_WIDTH / WARP; k++) {
            at[k] = maths::exp(at[k] - top);
            sum += at[k];
        }
        const T inverse = T(1) / warp_sum(sum);
#pragma unroll
        for (int k = 0; k < MOST_WIDTH / WARP; k++) {
            if (lane + k * WARP < n_out) y[row * n_out + lane + k * WARP] = at[k] * inverse;
        }
    }
}
