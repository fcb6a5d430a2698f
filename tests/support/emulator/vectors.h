// CUDA's short vectors, with CUDA's alignment.
#pragma once

#define EMULATION_VECTORS(T, name, align2, align4)                                      \
    struct alignas(align2) name##2 { T x, y; };                                         \
    struct alignas(align4) name##4 { T x, y, z, w; };                                   \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                          \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATION_VECTORS(float, float, 8, 16)
EMULATION_VECTORS(double, double, 16, 16)
EMULATION_VECTORS(int, int, 8, 16)
EMULATION_VECTORS(unsigned, uint, 8, 16)
EMULATION_VECTORS(long long, longlong, 16, 16)
EMULATION_VECTORS(unsigned char, uchar, 2, 4)
EMULATION_VECTORS(unsigned short, ushort, 4, 8)
#undef EMULATION_VECTORS
