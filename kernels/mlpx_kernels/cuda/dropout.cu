// Dropout: elements whose word is below a threshold become 0, the others are scaled. Its own gradient.
#include "common.cuh"
#include "random.cuh"

constexpr int DROPOUT_THREADS = 256;

__device__ __forceinline__ u64 step_of(const Clock* clock, i64 step) {
    return (u64)(clock ? clock->first_step + clock->step : step);
}

template <typename T> __device__ __forceinline__ T dropped(T x, u32 word, u64 threshold, Acc<T> scale) {
    return T(word < threshold ? Acc<T>(0) : Acc<T>(x) * scale);  // exactly 0, even for NaN
}

// Four elements, those of one counter, at a time. The step is that of the clock, or `step` without one; y may be x.
template <typename T>
__global__ void __launch_bounds__(DROPOUT_THREADS, 8) dropout(
    const T* x, T* y, i64 n, u64 threshold, double scale, u64 seed, i64 step, u32 layer, const Clock* clock
) {
    struct alignas(sizeof(T) < 4 ? 8 : 16) Four { T at[4]; };
    const u64 number = step_of(clock, step);
    const bool aligned = aligned16(x) && aligned16(y);
    const i64 first = (i64)blockIdx.x * DROPOUT_THREADS + threadIdx.x, many = (i64)gridDim.x * DROPOUT_THREADS;
    for (i64 block = first; block * 4 < n; block += many) {
        const Words words = philox((u32)block, layer, number, seed);
        const i64 at = block * 4;
        if (aligned && at + 4 <= n) {
            Four some = *(const Four*)(x + at);
#pragma unroll
            for (int k = 0; k < 4; k++) some.at[k] = dropped(some.at[k], words.at[k], threshold, Acc<T>(scale));
            *(Four*)(y + at) = some;
        } else {
#pragma unroll
            for (int k = 0; k < 4; k++) {
                if (at + k < n) y[at + k] = dropped(x[at + k], words.at[k], threshold, Acc<T>(scale));
            }
        }
    }
}

// The same with one mask for all places along some axes. The axes of x are in up to five runs, outermost first: shared,
// own (`outer` places), shared (`between`), own (`inner`), shared (`last`); the mask is (outer, inner).
template <typename T>
__global__ void __launch_bounds__(DROPOUT_THREADS) dropout_shared(
    const T* x, T* y, i64 n, i64 outer, i64 between, i64 inner, i64 last, u64 threshold, double scale, u64 seed,
    i64 step, u32 layer, const Clock* clock
) {
    const u64 number = step_of(clock, step);
    const i64 first = (i64)blockIdx.x * DROPOUT_THREADS + threadIdx.x, many = (i64)gridDim.x * DROPOUT_THREADS;
    for (i64 at = first; at < n; at += many) {
        const i64 rest = at / last, place = rest / inner / between % outer * inner + rest % inner;
        const u32 word = philox((u32)(place / 4), layer, number, seed).chosen(place % 4);
        y[at] = dropped(x[at], word, threshold, Acc<T>(scale));
    }
}
