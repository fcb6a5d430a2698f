// A small network's forward pass in one launch, in plain float32 or float64: every sum in registers.
#include "common.cuh"
#include "network.cuh"

constexpr int SIDE = 16;                    // threads across the outputs of a tile, and down its rows
constexpr int ROWS_EACH = TILE_ROWS / SIDE;   // rows and outputs of a thread
constexpr int OUTPUTS_EACH = MOST_WIDTH / SIDE;

// y = the network's output for x. All arrays in rows, C-contiguous; `layers` has n_layers entries, none wider than
// MOST_WIDTH. `softmax` tells whether a softmax follows.
template <typename T>
__global__ void __launch_bounds__(NETWORK_THREADS, sizeof(T) == 8 ? 1 : 2) network(
    const T* x, const T* parameters, const NetworkLayer* layers, i64 n_layers, i64 softmax, T* y, i64 rows
) {
    constexpr int V = Vector<T>::SIZE;
    SHARED_BYTES(shared);
    T* const activations = (T*)shared;
    T* const weights = (T*)(shared + ACTIVATION_BYTES<T>);
    const int across = threadIdx.x % SIDE, down = threadIdx.x / SIDE;
    for (i64 first = (i64)blockIdx.x * TILE_ROWS; first < rows; first += (i64)gridDim.x * TILE_ROWS) {
        __syncthreads();  // the tile before is done with
        load_tile(x, activations, first, rows, layers[0].n_in);
        i64 n_out = 0;
        for (i64 number = 0; number < n_layers; number++) {
            const NetworkLayer layer = layers[number];
            n_out = layer.n_out;
            T sum[ROWS_EACH][OUTPUTS_EACH];
#pragma unroll
            for (int i = 0; i < ROWS_EACH; i++) {
#pragma unroll
                for (int j = 0; j < OUTPUTS_EACH; j++) sum[i][j] = T(0);
            }
            for (int start = 0; start < layer.n_in; start += SLICE) {
                __syncthreads();
                load_weights(parameters + layer.w, weights, layer, start);
                __syncthreads();
#pragma unroll 1
                for (int k = 0; k < SLICE; k += V) {
                    Vector<T> a[ROWS_EACH];
#pragma unroll
                    for (int i = 0; i < ROWS_EACH; i++) {
                        a[i] = *(Vector<T>*)(activations + (down + SIDE * i) * ACTIVATION_STRIDE<T> + start + k);
                    }
#pragma unroll
                    for (int j = 0; j < OUTPUTS_EACH; j++) {
                        if (j * SIDE >= n_out) break;
                        const Vector<T> b = *(Vector<T>*)(weights + (across + SIDE * j) * WEIGHT_STRIDE<T> + k);
#pragma unroll
                        for (int i = 0; i < ROWS_EACH; i++) {
#pragma unroll
                            for (int v = 0; v < V; v++) sum[i][j] += a[i].at[v] * b.at[v];
                        }
                    }
                }
            }
            __syncthreads();  // all have read the layer's inputs, whose place its outputs take
            const bool last = number == n_layers - 1;
#pragma unroll
            for (int j = 0; j < OUTPUTS_EACH; j++) {
                const int output = across + SIDE * j;
                if (j * SIDE >= padded(n_out, SLICE)) break;
                const T bias = output < n_out && layer.b >= 0 ? parameters[layer.b + output] : T(0);
#pragma unroll
                for (int i = 0; i < ROWS_EACH; i++) {
                    const int r = down + SIDE * i;
                    const T value = output < n_out ? activate((int)layer.kind, sum[i][j] + bias) : T(0);
                    if (!last) {
                        activations[r * ACTIVATION_STRIDE<T> + output] = value;
                    } else if (output < n_out && first + r < rows) {
                        y[(first + r) * n_out + output] = value;
                    }
                }
            }
        }
        if (softmax) {
            __syncthreads();
            softmax_tile(y, first, rows, n_out);
        }
    }
}
