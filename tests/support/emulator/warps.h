// Warp operations: shuffles, votes, __syncwarp.
#pragma once

namespace emulation {

template <typename T> inline u64 packed(T value) {
    static_assert(sizeof(T) <= sizeof(u64), "a shuffle moves up to 8 bytes");
    u64 bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    return bits;
}

template <typename T> inline T unpacked(u64 bits) {
    T value;
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}

// `source` is the lane to read from, already brought into the segment.
template <typename T> inline T shuffle(u32 mask, T value, u32 source, int line) {
    u32 took_part;
    const u64* values = exchange(SHUFFLE, mask, packed(value), line, &took_part);
    if (!(took_part >> source & 1))
        fault("line %d: lane %u reads by shuffle from lane %u, which took no part", line, thread->lane, source);
    return unpacked<T>(values[source]);
}

inline u32 lane_id() { return thread->lane; }

}  // namespace emulation

template <typename T> inline T __shfl_sync(unsigned mask, T v, int from, int width = 32, int line = __builtin_LINE()) {
    const unsigned segment = emulation::lane_id() & ~(unsigned)(width - 1);
    return emulation::shuffle(mask, v, segment + ((unsigned)from & (unsigned)(width - 1)), line);
}

// Whoever would read past its segment reads itself, as in CUDA; xor may read from an earlier segment.
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32, int line = __builtin_LINE()) {
    const unsigned lane = emulation::lane_id(), from = lane ^ (unsigned)by;
    return emulation::shuffle(mask, v, from / width > lane / width ? lane : from, line);
}

template <typename T>
inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, int line = __builtin_LINE()) {
    const unsigned lane = emulation::lane_id(), from = lane + by;
    return emulation::shuffle(mask, v, from / width > lane / width ? lane : from, line);
}

template <typename T>
inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, int line = __builtin_LINE()) {
    const int lane = (int)emulation::lane_id(), from = lane - (int)by;
    return emulation::shuffle(mask, v, (unsigned)(from < lane / width * width ? lane : from), line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    unsigned took_part, result = 0;
    const emulation::u64* values = emulation::exchange(emulation::VOTE, mask, predicate != 0, line, &took_part);
    for (int lane = 0; lane < 32; lane++)
        if (took_part >> lane & 1) result |= (unsigned)values[lane] << lane;
    return result;
}

inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, predicate, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return __ballot_sync(mask, !predicate, line) == 0;
}

inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    unsigned took_part;
    emulation::exchange(emulation::SYNC, mask, 0, line, &took_part);
}
