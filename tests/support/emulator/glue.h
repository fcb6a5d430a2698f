// What Python needs of a module: a table of its instances, and where its shared memory lies.
#pragma once

#include "cuda_on_cpu.h"

namespace emulation {

// Two letters for a parameter: "v" a value, "p" a pointer or "c" one to what is only read, and what of: f float, d double, i int, l long long and so
// on as in Python's struct; h for bfloat16; x for anything else.
template <typename T> struct Letter { static constexpr char value = 'x'; };
#define EMULATION_LETTER(T, letter) \
    template <> struct Letter<T> { static constexpr char value = letter; };
EMULATION_LETTER(float, 'f')
EMULATION_LETTER(double, 'd')
EMULATION_LETTER(bool, '?')
EMULATION_LETTER(signed char, 'b')
EMULATION_LETTER(char, 'b')
EMULATION_LETTER(unsigned char, 'B')
EMULATION_LETTER(short, 'h')
EMULATION_LETTER(unsigned short, 'H')
EMULATION_LETTER(int, 'i')
EMULATION_LETTER(unsigned, 'I')
EMULATION_LETTER(long, 'q')
EMULATION_LETTER(unsigned long, 'Q')
EMULATION_LETTER(long long, 'q')
EMULATION_LETTER(unsigned long long, 'Q')
#ifdef EMULATION_BF16
EMULATION_LETTER(__nv_bfloat16, 'e')
#endif
#undef EMULATION_LETTER

template <typename T> struct Plain { typedef T type; };
template <typename T> struct Plain<const T> { typedef T type; };

template <typename T> struct Parameter { static constexpr char KIND = 'v', OF = Letter<typename Plain<T>::type>::value; };
template <typename T> struct Parameter<T*> { static constexpr char KIND = 'p', OF = Letter<T>::value; };
template <typename T> struct Parameter<const T*> { static constexpr char KIND = 'c', OF = Letter<T>::value; };

template <int... I> struct Numbers {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { typedef Numbers<I...> type; };

template <auto kernel> struct Instance;
template <typename... A, void (*kernel)(A...)> struct Instance<kernel> {
    static constexpr int COUNT = sizeof...(A);
    static constexpr char PARAMETERS[] = {Parameter<typename Plain<A>::type>::KIND..., Parameter<typename Plain<A>::type>::OF..., 0};

    template <int... I>
    __attribute__((no_sanitize("thread"), no_sanitize("address"))) static void spread(void** arguments, Numbers<I...>) {
        kernel(*(A*)arguments[I]...);
    }
    __attribute__((no_sanitize("thread"), no_sanitize("address"))) static void run(void** arguments) {
        spread(arguments, typename Count<COUNT>::type());
    }
};

}  // namespace emulation

extern "C" {
// Set by the linker.
extern unsigned char __ehdr_start __attribute__((visibility("hidden")));
extern unsigned char __bss_start __attribute__((visibility("hidden")));
extern unsigned char _end __attribute__((visibility("hidden")));

void emulation_image(void** image, void** bss, void** bss_end) {
    *image = &__ehdr_start;
    *bss = &__bss_start;
    *bss_end = &_end;
}
}
