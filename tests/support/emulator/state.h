// What the scheduler (runtime.cpp) and the watch over memory (memory.cpp) share.
#pragma once

#include "fibers.h"

namespace emulation {

struct Warp {
    u64 values[2][32];  // posted to an exchange; two, since fast lanes may begin the next one
    u32 posted[2];
    int phase;
    u32 alive, arrived, mask;
    Collective what;
    int line;
    u32 synced;  // clock of the last __syncwarp
};

// One array that the kernel was handed, and how many bytes of it were read and written.
struct Span {
    const unsigned char* begin;
    u64 bytes;
    u64 read, written;
};

struct Launch {
    void (*run)(void**);
    void** arguments;
    u32 grid[3], block[3];
    u32 shared;    // bytes of dynamic shared memory
    int schedule;  // 0 forward, 1 reverse, 2 shuffled
    int checked;   // watch every access
    Span* spans;
    int count;                            // of spans
    unsigned char *bss, *bss_end, *image;  // of the module: its static shared memory ends its image
    char* message;                        // 512 bytes for a fault
};

// Ticks at every barrier, __syncwarp, fence and atomic. An access is ordered before now if it came before the last
// barrier of its block, or the last __syncwarp of its warp.
extern u32 now;
extern u32 block_synced;
extern u32 block_number;
extern u32 thread_count;
extern Thread threads[MOST_THREADS];

void watch_launch(Launch& launch);  // begin to watch the arrays of a launch
void watch_block();                 // a new block: its shared memory holds nothing
void watch_end();
extern bool watching;

}  // namespace emulation
