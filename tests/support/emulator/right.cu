// Kernels that are right: test_emulator.py compares what they compute.

__global__ void indices(int* out) {
    const int block = blockIdx.x + gridDim.x * blockIdx.y;
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 10000 * block + thread;
}
__global__ void reversed(const float* x, float* y) {
    __shared__ float held[64];
    held[threadIdx.x] = x[64 * blockIdx.x + threadIdx.x];
    __syncthreads();
    y[64 * blockIdx.x + threadIdx.x] = held[63 - threadIdx.x];
}
template <typename T> __global__ void dynamic(const T* x, T* y, int n) {
    SHARED_BYTES(bytes);
    T* held = (T*)bytes;
    for (int i = threadIdx.x; i < n; i += blockDim.x) held[i] = x[i];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = held[n - 1 - i];
}
__global__ void shuffles(const int* x, int* out) {
    const int v = x[threadIdx.x], i = threadIdx.x;
    out[i] = __shfl_sync(~0u, v, 5);
    out[32 + i] = __shfl_xor_sync(~0u, v, 3);
    out[64 + i] = __shfl_down_sync(~0u, v, 4);
    out[96 + i] = __shfl_up_sync(~0u, v, 4);
    out[128 + i] = __shfl_down_sync(~0u, v, 1, 8);
    out[160 + i] = (int)__ballot_sync(~0u, v % 3 == 0);
    out[192 + i] = __any_sync(~0u, v == 7) + 2 * __all_sync(~0u, v >= 0);
    if (i < 16) out[224 + i] = __shfl_xor_sync(0xffffu, v, 8);
    out[240 + i] = __syncthreads_count(v % 2);
}
__global__ void histogram(const unsigned char* x, unsigned* counts, long long n) {
    for (long long i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(counts + x[i], 1u);
}
__global__ void last(const float* x, float* parts, float* sum, unsigned* done) {
    __shared__ bool is_last;
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = 2.0f * x[blockIdx.x];
        __threadfence();
        is_last = atomicAdd(done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last || threadIdx.x != 1) return;
    float s = 0.0f;
    for (unsigned b = 0; b < gridDim.x; b++) s += parts[b];
    *sum = s;
}
__global__ void early(float* y, int n) {  // threads that have returned are waited for no more
    if ((int)threadIdx.x >= n) return;
    __syncthreads();
    y[threadIdx.x] = 1.0f;
}
