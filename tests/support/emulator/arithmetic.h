// Functions that CUDA C++ has without a header and C++ has not.
#pragma once

namespace emulation {
template <typename To, typename From> inline To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From), "bit casts keep the size");
    To result;
    __builtin_memcpy(&result, &value, sizeof(To));
    return result;
}
}  // namespace emulation

#define EMULATION_MINMAX(T)                                  \
    inline T min(T a, T b) { return b < a ? b : a; }         \
    inline T max(T a, T b) { return a < b ? b : a; }
EMULATION_MINMAX(int)
EMULATION_MINMAX(unsigned)
EMULATION_MINMAX(long long)
EMULATION_MINMAX(unsigned long long)
#undef EMULATION_MINMAX
// Of floats, CUDA's min and max are fmin and fmax: a NaN loses.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float __int_as_float(int i) { return emulation::bits_as<float>(i); }
inline int __float_as_int(float f) { return emulation::bits_as<int>(f); }
inline float __uint_as_float(unsigned i) { return emulation::bits_as<float>(i); }
inline unsigned __float_as_uint(float f) { return emulation::bits_as<unsigned>(f); }
inline double __longlong_as_double(long long i) { return emulation::bits_as<double>(i); }
inline long long __double_as_longlong(double d) { return emulation::bits_as<long long>(d); }

// Rounded once each, whatever the compiler would contract.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
inline unsigned __brev(unsigned x) {
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (x >> i & 1u) << (31 - i);
    return r;
}

// Loads with a hint for the cache are loads; what is passed by reference may be const.
template <typename T> inline T __ldg(const T* p) { return *p; }
template <typename T> inline T __ldcs(const T* p) { return *p; }
template <typename T> inline T __ldcg(const T* p) { return *p; }
template <typename T> inline void __stcs(T* p, T v) { *p = v; }
template <typename T> inline void __stcg(T* p, T v) { *p = v; }
