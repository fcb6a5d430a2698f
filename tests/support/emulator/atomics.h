// Atomics. Fibers change only at barriers and warp operations, so a plain read and write is atomic; the checked build
// is told, since an atomic neither races with another nor stays private to its block.
#pragma once

#define EMULATION_ATOMIC(name, expression)                                            \
    template <typename T, typename V>                                                 \
    __attribute__((no_sanitize("thread"))) inline T name(T* at, V operand) {          \
        emulation::atomic(at, sizeof(T));                                             \
        const T before = *at, value = (T)operand;                                     \
        *at = (expression);                                                           \
        return before;                                                                \
    }
EMULATION_ATOMIC(atomicAdd, before + value)
EMULATION_ATOMIC(atomicSub, before - value)
EMULATION_ATOMIC(atomicMax, before < value ? value : before)
EMULATION_ATOMIC(atomicMin, value < before ? value : before)
EMULATION_ATOMIC(atomicExch, value)
EMULATION_ATOMIC(atomicOr, before | value)
EMULATION_ATOMIC(atomicAnd, before & value)
// Counts up to a bound and starts again.
EMULATION_ATOMIC(atomicInc, before >= value ? 0 : before + 1)
#undef EMULATION_ATOMIC

template <typename T>
__attribute__((no_sanitize("thread"))) inline T atomicCAS(T* at, T expected, T value) {
    emulation::atomic(at, sizeof(T));
    const T before = *at;
    if (before == expected) *at = value;
    return before;
}
