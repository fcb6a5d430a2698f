// A small network's forward pass in one launch, on tensor cores: products of TF32 or bfloat16 numbers, sums in float32.
#include <cuda_bf16.h>
#include <mma.h>

#include "common.cuh"
#include "network.cuh"

using namespace nvcuda;

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define MLPX_TENSOR_TILES
#endif

#ifdef MLPX_TENSOR_TILES
// How numbers lie in shared memory, and the tiles they are multiplied in. Weights lie an output per row, so the second
// factor is read by columns.
struct Tf32 {
    typedef float Storage;
    static constexpr int DEPTH = 8;
    typedef wmma::fragment<wmma::matrix_a, 16, 16, DEPTH, wmma::precision::tf32, wmma::row_major> First;
    typedef wmma::fragment<wmma::matrix_b, 16, 16, DEPTH, wmma::precision::tf32, wmma::col_major> Second;
    typedef wmma::fragment<wmma::accumulator, 16, 16, DEPTH, float> Sum;
    template <typename F> static __device__ __forceinline__ void round(F& f) {
#pragma unroll
        for (int e = 0; e < F::num_elements; e++) f.x[e] = wmma::__float_to_tf32(f.x[e]);
    }
};
struct Bf16 {
    typedef __nv_bfloat16 Storage;
    static constexpr int DEPTH = 16;
    typedef wmma::fragment<wmma::matrix_a, 16, 16, DEPTH, __nv_bfloat16, wmma::row_major> First;
    typedef wmma::fragment<wmma::matrix_b, 16, 16, DEPTH, __nv_bfloat16, wmma::col_major> Second;
    typedef wmma::fragment<wmma::accumulator, 16, 16, DEPTH, float> Sum;
    template <typename F> static __device__ __forceinline__ void round(F&) {}
};

#else
struct Tf32;
struct Bf16;
#endif

constexpr int TILE = 16;
constexpr int TILES_DOWN = TILE_ROWS / TILE;             // tiles of rows, one for each of so many warps
constexpr int STEP = NETWORK_WARPS / TILES_DOWN;         // warps that share a tile of rows take turns at its columns
constexpr int TILES_EACH = MOST_WIDTH / TILE / STEP;

// y = the network's output for x, all float32; see network.cu. On devices without such tiles (before compute capability
// 8.0) the kernel is empty, and nobody launches it.
template <typename Kind>
__global__ void __launch_bounds__(NETWORK_THREADS, 2) network_tensor(
    const float* x, const float* parameters, const NetworkLayer* layers, i64 n_layers, i64 softmax, float* y, i64 rows
) {
#ifdef MLPX_TENSOR_TILES
    typedef typename Kind::Storage S;
    SHARED_BYTES(shared);
    S* const activations = (S*)shared;
    S* const weights = (S*)(shared + ACTIVATION_BYTES<S>);
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float* const finished = (float*)(shared + ACTIVATION_BYTES<S> + WEIGHT_BYTES<S>) + warp * TILE * TILE;
    const int row0 = warp % TILES_DOWN * TILE, tile0 = warp / TILES_DOWN;
    for (i64 first = (i64)blockIdx.x * TILE_ROWS; first < rows; first += (i64)gridDim.x * TILE_ROWS) {
        __syncthreads();  // the tile before is done with
        load_tile(x, activations, first, rows, layers[0].n_in);
        i64 n_out = 0;
        for (i64 number = 0; number < n_layers; number++) {
            const NetworkLayer layer = layers[number];
            n_out = layer.n_out;
            typename Kind::Sum sum[TILES_EACH];
#pragma unroll
            for (int j = 0; j < TILES_EACH; j++) wmma::fill_fragment(sum[j], 0.0f);
            for (int start = 0; start < layer.n_in; start += SLICE) {
                __syncthreads();
                load_weights(parameters + layer.w, weights, layer, start);
                __syncthreads();
#pragma unroll
                for (int k = 0; k < SLICE; k += Kind::DEPTH) {
                    typename Kind::First a;
                    wmma::load_matrix_sync(
                        a, activations + row0 * ACTIVATION_STRIDE<S> + start + k, ACTIVATION_STRIDE<S>
                    );
                    Kind::round(a);
#pragma unroll
                    for (int j = 0; j < TILES_EACH; j++) {
                        const int output0 = (tile0 + STEP * j) * TILE;
                        if (output0 < n_out) {
                            typename Kind::Second b;
                            wmma::load_matrix_sync(b, weights + output0 * WEIGHT_STRIDE<S> + k, WEIGHT_STRIDE<S>);
                            Kind::round(b);
                            wmma::mma_sync(sum[j], a, b, sum[j]);
                        }
                    }
                }
            }
            __syncthreads();  // all have read the layer's inputs, whose place its outputs take
            const bool last = number == n_layers - 1;
#pragma unroll
            for (int j = 0; j < TILES_EACH; j++) {
                const int output0 = (tile0 + STEP * j) * TILE;
                if (output0 >= padded(n_out, SLICE)) continue;
                wmma::store_matrix_sync(finished, sum[j], TILE, wmma::mem_row_major);
                __syncwarp();
                for (int e = lane; e < TILE * TILE; e += WARP) {
                    const int r = row0 + e / TILE, output = output0 + e % TILE;
                    const float bias = output < n_out && layer.b >= 0 ? parameters[layer.b + output] : 0.0f;
                    const float value = output < n_out ? activate((int)layer.kind, finished[e] + bias) : 0.0f;
                    if (!last) {
                        activations[r * ACTIVATION_STRIDE<S> + output] = S(value);
                    } else if (output < n_out && first + r < rows) {
                        y[(first + r) * n_out + output] = value;
                    }
                }
                __syncwarp();
            }
        }
        if (softmax) {
            __syncthreads();
            softmax_tile(y, first, rows, n_out);
        }
    }
#endif
}
