// Tensor-core tiles (nvcuda::wmma): bfloat16 16x16x16 and TF32 16x16x8, sums in float.
//
// A lane holds its share of a tile, element e of lane l being number l * num_elements + e in rows. CUDA does not say
// which elements a lane holds, so a program can rely on no other order either.
#pragma once

#include "cuda_bf16.h"

namespace nvcuda {
namespace wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
namespace precision {
struct tf32;
}
enum layout_t { mem_row_major, mem_col_major };

template <typename Use, int M, int N, int K> struct TileShape;
template <int M, int N, int K> struct TileShape<matrix_a, M, N, K> { static constexpr int ROWS = M, COLUMNS = K; };
template <int M, int N, int K> struct TileShape<matrix_b, M, N, K> { static constexpr int ROWS = K, COLUMNS = N; };
template <int M, int N, int K> struct TileShape<accumulator, M, N, K> { static constexpr int ROWS = M, COLUMNS = N; };

template <typename T> struct Held { typedef T type; };
template <> struct Held<precision::tf32> { typedef float type; };

template <typename Layout> struct InColumns { static constexpr bool value = false; };
template <> struct InColumns<col_major> { static constexpr bool value = true; };

template <typename Use, int M, int N, int K, typename T, typename Layout = void> struct fragment {
    typedef TileShape<Use, M, N, K> Shape;
    typedef typename Held<T>::type Element;
    static constexpr int num_elements = Shape::ROWS * Shape::COLUMNS / 32;
    Element x[num_elements];
};

inline float __float_to_tf32(float f) {
    const unsigned u = __float_as_uint(f);
    return (u & 0x7f800000u) == 0x7f800000u ? f : __uint_as_float((u + 0x1000u) & 0xffffe000u);
}

template <typename F> inline void meet(const F*, int line) {
    unsigned took_part;
    emulation::exchange(emulation::MATRIX, 0xffffffffu, 0, line, &took_part);
    if (took_part != 0xffffffffu) emulation::fault("line %d: a tile needs all 32 lanes of its warp", line);
}

template <typename F, typename V> inline void fill_fragment(F& f, V value) {
    for (int e = 0; e < F::num_elements; e++) f.x[e] = (typename F::Element)value;
}

template <typename F, typename T> inline void copy_in(F& f, const T* from, unsigned stride, bool columns) {
    for (int e = 0; e < F::num_elements; e++) {
        const unsigned at = emulation::lane_id() * F::num_elements + e;
        const unsigned row = at / F::Shape::COLUMNS, column = at % F::Shape::COLUMNS;
        f.x[e] = from[columns ? column * stride + row : row * stride + column];
    }
}

// CUDA wants tiles on 32 bytes and rows apart by a multiple of 16 bytes.
template <typename T> inline void check_tile(const T* at, unsigned stride, int line) {
    if (((unsigned long long)at & 31) != 0) emulation::fault("line %d: a tile that does not begin on 32 bytes", line);
    if (stride * sizeof(T) % 16 != 0) emulation::fault("line %d: a tile's rows are no multiple of 16 bytes apart", line);
}

template <typename Use, int M, int N, int K, typename T, typename Layout, typename S>
inline void load_matrix_sync(
    fragment<Use, M, N, K, T, Layout>& f, const S* from, unsigned stride, int line = __builtin_LINE()) {
    check_tile(from, stride, line);
    meet(&f, line);
    copy_in(f, from, stride, InColumns<Layout>::value);
}

template <int M, int N, int K, typename T>
inline void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, const T* from, unsigned stride, layout_t layout,
                             int line = __builtin_LINE()) {
    check_tile(from, stride, line);
    meet(&f, line);
    copy_in(f, from, stride, layout == mem_col_major);
}

template <int M, int N, int K, typename T>
inline void store_matrix_sync(T* to, const fragment<accumulator, M, N, K, T>& f, unsigned stride, layout_t layout,
                              int line = __builtin_LINE()) {
    check_tile(to, stride, line);
    meet(&f, line);
    for (int e = 0; e < f.num_elements; e++) {
        const unsigned at = emulation::lane_id() * f.num_elements + e, row = at / N, column = at % N;
        to[layout == mem_col_major ? column * stride + row : row * stride + column] = f.x[e];
    }
}

// The tensor cores ignore what is below TF32; a program that did not round its operands gets other numbers than it
// thinks, so that is a fault here.
inline void check_rounded(float f, int line) {
    if ((__float_as_uint(f) & 0x1fffu) != 0 && f == f)
        emulation::fault("line %d: an operand of a TF32 product was not rounded by __float_to_tf32", line);
}
inline void check_rounded(__nv_bfloat16, int) {}

// Fragments live on the stacks of their lanes; while all lanes wait, each may read the others'.
template <typename F> struct Lent {
    const F* of[32];
    __attribute__((no_sanitize("thread"))) Lent(const F& mine, int line) {
        unsigned took_part;
        const emulation::u64* at =
            emulation::exchange(emulation::MATRIX, 0xffffffffu, (emulation::u64)&mine, line, &took_part);
        if (took_part != 0xffffffffu) emulation::fault("line %d: a tile needs all 32 lanes of its warp", line);
        for (int lane = 0; lane < 32; lane++) of[lane] = (const F*)at[lane];
    }
    __attribute__((no_sanitize("thread"))) typename F::Element at(int row, int column) const {
        const int number = row * F::Shape::COLUMNS + column;
        return of[number / F::num_elements]->x[number % F::num_elements];
    }
};

template <int M, int N, int K, typename T, typename LA, typename LB>
inline void mma_sync(fragment<accumulator, M, N, K, float>& d, const fragment<matrix_a, M, N, K, T, LA>& a,
                     const fragment<matrix_b, M, N, K, T, LB>& b, const fragment<accumulator, M, N, K, float>& c,
                     int line = __builtin_LINE()) {
    const Lent<fragment<matrix_a, M, N, K, T, LA>> as(a, line);
    const Lent<fragment<matrix_b, M, N, K, T, LB>> bs(b, line);
    for (int e = 0; e < d.num_elements; e++) {
        const int at = (int)emulation::lane_id() * d.num_elements + e, row = at / N, column = at % N;
        float sum = c.x[e];
        for (int k = 0; k < K; k++) {
            const auto left = as.at(row, k), right = bs.at(k, column);
            check_rounded(left, line);
            check_rounded(right, line);
            sum += (float)left * (float)right;
        }
        d.x[e] = sum;
    }
    meet(&d, line);  // nobody changes a fragment that another lane still reads
}

}  // namespace wmma
}  // namespace nvcuda
