// The same numbers in another type.
#include "common.cuh"

constexpr int CAST_THREADS = 256;

// to = from, rounded to the nearest. Four at a time where both are aligned.
template <typename From, typename To>
__global__ void __launch_bounds__(CAST_THREADS) cast(const From* from, To* to, i64 n) {
    struct alignas(4 * sizeof(From)) Four { From at[4]; };
    struct alignas(4 * sizeof(To)) FourOut { To at[4]; };
    const i64 first = (i64)blockIdx.x * CAST_THREADS + threadIdx.x, step = (i64)gridDim.x * CAST_THREADS;
    const bool aligned = aligned16(from) && aligned16(to);
    const i64 done = aligned ? n / 4 * 4 : 0;
    for (i64 at = 4 * first; at < done; at += 4 * step) {
        const Four in = *(const Four*)(from + at);
        FourOut out;
#pragma unroll
        for (int k = 0; k < 4; k++) out.at[k] = To(in.at[k]);
        *(FourOut*)(to + at) = out;
    }
    for (i64 at = done + first; at < n; at += step) to[at] = To(from[at]);
}
