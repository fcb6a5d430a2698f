// What a checked build reports through the calls that g++ inserts for its UndefinedBehaviorSanitizer (whose own library
// is not linked): misaligned vectors, indices outside an array of known size, shifts, overflow, division by zero.

#include "state.h"

namespace {

// Every report begins with the place in the source.
struct Place {
    const char* file;
    emulation::u32 line, column;
};

[[noreturn]] void report(const Place* at, const char* what) { emulation::fault("line %u: %s", at->line, what); }

}  // namespace

extern "C" {
void __ubsan_handle_type_mismatch_v1(Place* at, void* pointer) {
    emulation::fault("line %u: a pointer that is misaligned for its type, %p", at->line, pointer);
}
void __ubsan_handle_out_of_bounds(Place* at, void* index) {
    emulation::fault("line %u: index %ld is outside of the array", at->line, (long)index);
}
void __ubsan_handle_shift_out_of_bounds(Place* at, void*, void*) { report(at, "a shift by more bits than there are"); }
void __ubsan_handle_divrem_overflow(Place* at, void*, void*) { report(at, "a division by zero"); }
void __ubsan_handle_add_overflow(Place* at, void*, void*) { report(at, "a signed sum overflows"); }
void __ubsan_handle_sub_overflow(Place* at, void*, void*) { report(at, "a signed difference overflows"); }
void __ubsan_handle_mul_overflow(Place* at, void*, void*) { report(at, "a signed product overflows"); }
void __ubsan_handle_negate_overflow(Place* at, void*) { report(at, "a signed negation overflows"); }
}
