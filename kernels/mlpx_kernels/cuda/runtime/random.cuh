// Philox 4x32-10, a generator without state: a counter and a key make four uniform words of 32 bits. The words are
// those of mlpx.ops.dropout, so that a seed drops the same elements on every backend.
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
#pragma once
#include "common.cuh"

struct Words {
    u32 at[4];
    // The word of a place that is not known at compile time, without an array in memory.
    __device__ __forceinline__ u32 chosen(i64 k) const {
        return k < 2 ? (k ? at[1] : at[0]) : (k == 2 ? at[2] : at[3]);
    }
};

__device__ __forceinline__ Words philox(u32 block, u32 layer, u64 step, u64 seed) {
    u32 c0 = block, c1 = layer, c2 = (u32)step, c3 = (u32)(step >> 32), k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const u64 p0 = (u64)c0 * 0xD2511F53u, p1 = (u64)c2 * 0xCD9E8D57u;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c1 = (u32)p1;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c3 = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}
