// Products of small matrices, for steps that are captured where no cuBLASLt is at hand.
#include "common.cuh"

constexpr int TILE = 32;   // rows and columns of the result that a block computes, and the depth of one pass
constexpr int SIDE = 16;   // threads along each side of the block; each computes 2 x 2 elements

// d (m, n) = op(a) op(b), all C-contiguous: a is (m, k), or (k, m) where A_T; b is (k, n), or (n, k) where B_T. a and b
// are of T, d of D.
//
// Tiles of a and b lie in shared memory with one column to spare, so that a transposed read meets every bank once.
// A sum runs over k in order, so results do not depend on the grid.
template <typename T, typename D, bool A_T, bool B_T>
__global__ void __launch_bounds__(SIDE * SIDE, sizeof(T) == 8 ? 2 : 4)
    product(const T* __restrict__ a, const T* __restrict__ b, D* __restrict__ d, i64 m, i64 n, i64 k) {
    __shared__ T at[TILE][TILE + 1], bt[TILE][TILE + 1];  // at[row][depth], bt[depth][column]
    const i64 row0 = (i64)blockIdx.y * TILE, column0 = (i64)blockIdx.x * TILE;
    const int x = threadIdx.x % SIDE, y = threadIdx.x / SIDE;
    Acc<T> sum[2][2] = {};
    for (i64 depth0 = 0; depth0 < k; depth0 += TILE) {
        for (int e = threadIdx.x; e < TILE * TILE; e += SIDE * SIDE) {
            const int slow = e / TILE, fast = e % TILE;  // neighbouring threads read neighbouring elements
            if (A_T) {
                const i64 row = row0 + fast, depth = depth0 + slow;
                at[fast][slow] = row < m && depth < k ? a[depth * m + row] : T(0.0f);
            } else {
                const i64 row = row0 + slow, depth = depth0 + fast;
                at[slow][fast] = row < m && depth < k ? a[row * k + depth] : T(0.0f);
            }
            if (B_T) {
                const i64 column = column0 + slow, depth = depth0 + fast;
                bt[fast][slow] = column < n && depth < k ? b[column * k + depth] : T(0.0f);
            } else {
                const i64 column = column0 + fast, depth = depth0 + slow;
                bt[slow][fast] = column < n && depth < k ? b[depth * n + column] : T(0.0f);
            }
        }
        __syncthreads();
#pragma unroll 8
        for (int depth = 0; depth < TILE; depth++) {
            const Acc<T> a0 = Acc<T>(at[y][depth]), a1 = Acc<T>(at[y + SIDE][depth]);
            const Acc<T> b0 = Acc<T>(bt[depth][x]), b1 = Acc<T>(bt[depth][x + SIDE]);
            sum[0][0] += a0 * b0;
            sum[0][1] += a0 * b1;
            sum[1][0] += a1 * b0;
            sum[1][1] += a1 * b1;
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const i64 row = row0 + y + i * SIDE, column = column0 + x + j * SIDE;
            if (row < m && column < n) d[row * n + column] = D(sum[i][j]);
        }
}
