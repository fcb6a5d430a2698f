// Kernels with a planted fault each; test_emulator.py says how every one must be caught.

__noinline__ float deep(volatile float* y, int n) {
    volatile float pad[256];
    pad[n & 255] = 1;
    return y[0] + deep(y, n + 1) + pad[0];
}

__global__ void divergent_barrier(float* y) {
    const unsigned t = threadIdx.x;
    if (t < 40) __syncthreads();
    else __syncthreads();
    y[t] = 1;
}

__global__ void barrier_against_shuffle(float* y) {
    const unsigned t = threadIdx.x;
    if (t < 40) __syncthreads(); else y[t] = __shfl_xor_sync(~0u, 1.0f, 1);
}

__global__ void shuffle_in_a_branch(float* y) {
    const unsigned t = threadIdx.x;
    float v = t;
    if (t & 1) v = __shfl_xor_sync(~0u, v, 1);
    y[t] = v;
}

__global__ void shuffles_apart(float* y) {
    const unsigned t = threadIdx.x;
    float v = t;
    if (t & 1) v = __shfl_xor_sync(~0u, v, 1);
    else v = __shfl_sync(~0u, v, 0);
    y[t] = v;
}

__global__ void lane_outside_its_mask(float* y) {
    const unsigned t = threadIdx.x;
    y[t] = __shfl_xor_sync(0xffffu, 1.0f, 1);
}

__global__ void shuffle_from_a_returned_lane(float* y) {
    const unsigned t = threadIdx.x;
    if (t >= 16) return;
    y[t] = __shfl_sync(~0u, 1.0f, 20);
}

__global__ void missing_barrier(float* y) {
    const unsigned t = threadIdx.x;
    __shared__ float s[64];
    s[t] = t;
    y[t] = s[t ^ 32];
}

__global__ void missing_syncwarp(float* y) {
    const unsigned t = threadIdx.x;
    __shared__ float s[32];
    s[t] = t;
    y[t] = s[t ^ 1];
}

__global__ void missing_second_barrier(float* y) {
    const unsigned t = threadIdx.x;
    __shared__ float s;
    for (int i = 0; i < 3; i++) {
        if (t == 0) s = i;
        __syncthreads();
        y[t] += s;
    }
}

__global__ void two_threads_one_place(float* y) {
    const unsigned t = threadIdx.x;
    y[t / 2] = t;
}

__global__ void shuffle_orders_no_memory(float* y) {
    const unsigned t = threadIdx.x;
    __shared__ float s[32];
    s[t] = t;
    const float v = __shfl_sync(~0u, 1.0f, 0);
    y[t] = v * s[31 - t];
}

__global__ void blocks_share_a_place(float* y) {
    const unsigned t = threadIdx.x;
    y[t] += 1;
}

__global__ void plain_counter_of_blocks(float* y) {
    const unsigned t = threadIdx.x;
    if (t == 0) y[0] = y[0] + 1;
}

__global__ void past_the_end(float* y) {
    const unsigned t = threadIdx.x;
    y[t + 64 * blockIdx.x] = 1;
}

__global__ void before_the_start(float* y) {
    const unsigned t = threadIdx.x;
    if (t == 3) y[0] = y[(int)t - 4];
}

__global__ void wild(float* y) {
    const unsigned t = threadIdx.x;
    y[t] = ((float*)16)[t];
}

__global__ void shared_never_written(float* y) {
    const unsigned t = threadIdx.x;
    __shared__ float s[64];
    if (t < 63) s[t] = 0;
    __syncthreads();
    y[t] = s[t];
}

__global__ void shared_of_the_block_before(float* y) {
    const unsigned t = threadIdx.x;
    __shared__ float s;
    if (t == 0 && blockIdx.x == 0) s = 1;
    __syncthreads();
    if (s > 0) y[t + 64 * blockIdx.x] = s;
}

__global__ void misaligned_vector(float* y) {
    const unsigned t = threadIdx.x;
    if (t == 0) *(float4*)(y + 1) = make_float4(1, 2, 3, 4);
}

__global__ void index_past_a_local_array(float* y) {
    const unsigned t = threadIdx.x;
    float a[4];
    for (int i = 0; i < 4; i++) a[i] = y[t];
    y[t] = a[(int)t];
}

__global__ void shift_too_far(float* y) {
    const unsigned t = threadIdx.x;
    y[t] = 1 << t << 1;
}

__global__ void sum_overflows(float* y) {
    const unsigned t = threadIdx.x;
    int n = 2147483640;
    n += (int)y[t] + (int)t;
    y[t] = n;
}

__global__ void endless_recursion(float* y) {
    const unsigned t = threadIdx.x;
    y[t] = deep(y, t);
}

// The schedules give different results in the fast build.
__global__ void racy(float* y) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    y[threadIdx.x] = s[63 - threadIdx.x];
}
