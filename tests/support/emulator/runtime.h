// What a kernel compiled for the CPU needs of the runtime (runtime.cpp), which is compiled once and shared by all.
//
// No standard headers here: every kernel includes this file, and their compile time is most of what the tests take.
#pragma once

namespace emulation {

typedef unsigned int u32;
typedef unsigned long long u64;

struct Index {
    u32 x, y, z;
};

// Collective operations of a warp; lanes that meet must be in the same one.
enum Collective : int { SYNC = 1, SHUFFLE, VOTE, MATRIX };

struct Warp;

// A CUDA thread: a fiber with a stack of its own.
struct Thread {
    Index index;     // threadIdx
    u32 rank;        // place in the block
    u32 lane;        // place in the warp
    Warp* warp;
    void* stack;     // saved stack pointer while another fiber runs
    int waits;       // 0: ready, else why not (runtime.cpp)
    int line;        // of the source, where it waits
    u32 fence;       // clock of its last __threadfence()
    bool done;
};

extern Thread* thread;  // the one that runs
extern Index block_index, block_size, grid_size;
extern unsigned char* dynamic_shared;
extern u32 dynamic_bytes;

// Wait until all threads of the block that have not returned are here; return how many predicates were true.
int barrier(int predicate, int line);

// Wait until all lanes of `mask` that have not returned are here; return the 32 values that they posted, valid until
// the next exchange but one, and which lanes took part.
const u64* exchange(Collective what, u32 mask, u64 value, int line, u32* took_part);

// Report a fault and end the launch; the emulator raises it as a Python exception.
[[noreturn]] void fault(const char* format, ...) __attribute__((format(printf, 1, 2)));

void fence();                              // __threadfence()
void atomic(const void* at, u32 bytes);    // an atomic operation is about to happen there

// What Python knows of a kernel: one for each instance of a module.
struct Entry {
    const char* name;
    void (*run)(void** arguments);
    int count;
    const char* parameters;  // a letter and a digit each: see glue.h
};

}  // namespace emulation
