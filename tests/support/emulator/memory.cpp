// The watch over memory: every load and store of a checked build comes here, through the calls that g++ inserts for
// ThreadSanitizer (whose own library is not linked).
//
// It finds accesses outside the arrays that the kernel was handed, misaligned vectors, reads of shared memory that
// nobody wrote, and races: two accesses of one byte, one of them a write, that nothing orders. Within a block a
// barrier orders, within a warp __syncwarp; between blocks, a fence and an atomic after the first access, and an
// atomic of the other block after that. It goes by order, not by luck: one schedule is enough to see a race.
//
// Source of the idea: Flanagan and Freund, FastTrack, PLDI 2009, with one clock instead of vectors of them, since a
// block's barriers order all of its threads.

#include <stdlib.h>
#include <string.h>

#include "state.h"

// Set by the linker: where the runtime's own image lies.
extern "C" unsigned char __ehdr_start __attribute__((visibility("hidden")));
extern "C" unsigned char _end __attribute__((visibility("hidden")));

namespace emulation {

constexpr unsigned short MANY = 0xffff;  // instead of one thread or warp
constexpr u32 NOBODY = 0;

// Who touched a byte last, and when. `block` is a number from 1.
struct Stamp {
    u32 block, clock;
    unsigned short thread, warp;
};

struct Byte {
    Stamp write, read;
    bool atomic;  // the write was one
};

struct Region {
    const unsigned char *begin, *end;
    Byte* bytes;
    int span;  // of an array, or -1 for shared memory
};

// What a block had published by its last atomic: all accesses of a thread before its last fence, and those of all
// threads before the barrier that the atomic's thread fenced after.
struct Published {
    u32 clock, all, block;
    u32 fences[MOST_THREADS];
};

bool watching;
static Launch* launch;
static Region* regions;
static int region_count;
static Published** published;  // by block
static u64 block_total;
static u32 acquired;  // clock of this block's last atomic

static Region* region_of(const unsigned char* at) {
    for (int i = 0; i < region_count; i++)
        if (at >= regions[i].begin && at < regions[i].end) return &regions[i];
    return nullptr;
}

static void add_region(const unsigned char* begin, const unsigned char* end, int span) {
    if (begin == end) return;
    for (int i = 0; i < region_count; i++) {  // arrays that overlap are watched as one
        Region& r = regions[i];
        if (begin < r.end && r.begin < end) {
            r.begin = begin < r.begin ? begin : r.begin;
            r.end = end > r.end ? end : r.end;
            return;
        }
    }
    regions[region_count++] = {begin, end, nullptr, span};
}

void watch_launch(Launch& watched) {
    launch = &watched;
    regions = (Region*)calloc((size_t)watched.count + 2, sizeof(Region));
    region_count = 0;
    for (int i = 0; i < watched.count; i++)
        add_region(watched.spans[i].begin, watched.spans[i].begin + watched.spans[i].bytes, i);
    add_region(watched.bss, watched.bss_end, -1);
    add_region(dynamic_shared, dynamic_shared + dynamic_bytes, -1);
    for (int i = 0; i < region_count; i++)
        regions[i].bytes = (Byte*)calloc((size_t)(regions[i].end - regions[i].begin), sizeof(Byte));
    block_total = (u64)watched.grid[0] * watched.grid[1] * watched.grid[2];
    published = (Published**)calloc(block_total, sizeof(Published*));
    watching = true;
}

void watch_block() { acquired = 0; }

void watch_end() {
    watching = false;
    for (int i = 0; i < region_count; i++) free(regions[i].bytes);
    for (u64 i = 0; i < block_total; i++) free(published[i]);
    free(published);
    free(regions);
}

static bool ordered_by_atomics(const Stamp& earlier, bool was_atomic) {
    const Published* p = published[earlier.block - 1];
    if (p == nullptr || acquired <= p->clock) return false;
    if (was_atomic || earlier.clock < p->all) return true;
    if (earlier.thread == MANY) {  // several read: all of them must have fenced since
        for (u32 i = 0; i < thread_count; i++)
            if (p->fences[i] <= earlier.clock) return false;
        return true;
    }
    return earlier.clock < p->fences[earlier.thread];
}

static bool is_ordered(const Stamp& earlier, bool was_atomic) {
    if (earlier.block == NOBODY || (earlier.block == block_number + 1 && earlier.thread == thread->rank)) return true;
    if (earlier.block != block_number + 1) return ordered_by_atomics(earlier, was_atomic);
    return earlier.clock < block_synced || (earlier.warp == thread->rank / 32 && earlier.clock < thread->warp->synced);
}

static const char* place_of(const Region& r, const unsigned char* at, long* offset) {
    if (r.span < 0) {
        *offset = (long)(at - r.begin);
        return "shared memory, byte";
    }
    *offset = (long)(at - launch->spans[r.span].begin);
    return "array";
}

[[noreturn]] static void race(const Region& r, const unsigned char* at, const Stamp& other, const char* what) {
    long offset;
    const char* place = place_of(r, at, &offset);
    char who[64];
    if (other.thread == MANY) strcpy(who, "several threads");
    else __builtin_snprintf(who, sizeof who, "thread %u", other.thread);
    if (r.span < 0)
        fault("race: %s of %s %ld, with %s of block %u; nothing orders them", what, place, offset, who, other.block - 1);
    fault("race: %s of array %d, byte %ld, with %s of block %u; nothing orders them", what, r.span, offset, who,
          other.block - 1);
}

static void one_byte(Region& r, const unsigned char* at, bool write, bool atomic) {
    Byte& b = r.bytes[at - r.begin];
    const u32 block = block_number + 1;
    if (r.span < 0 && b.write.block != block) {  // shared memory of an earlier block, or nothing yet
        if (!write) fault("reads shared memory, byte %ld, which no thread of the block has written",
                          (long)(at - r.begin));
        b = Byte{};
    }
    if (!(atomic && b.atomic) && !is_ordered(b.write, b.atomic))
        race(r, at, b.write, write ? "a write after the write" : "a read after the write");
    const Stamp mine = {block, now, (unsigned short)thread->rank, (unsigned short)(thread->rank / 32)};
    if (!write) {
        Stamp& read = b.read;
        // A read that is ordered before this one is covered by it; others are remembered together.
        if (read.block == block && !is_ordered(read, false)) {
            read.thread = MANY;
            if (read.warp != mine.warp) read.warp = MANY;
            read.clock = now;
        } else if (read.block != block && read.block != NOBODY && !is_ordered(read, false)) {
            return;  // of the blocks that read, the first stands for all
        } else {
            read = mine;
        }
        return;
    }
    if (!is_ordered(b.read, false)) race(r, at, b.read, "a write after the read");
    b.write = mine;
    b.read = Stamp{};
    b.atomic = atomic;
}

static bool is_own_stack(const unsigned char* at) {
    const unsigned char* base = stacks() + thread->rank * STACK;
    return at >= base && at < base + STACK;
}

static void access(const void* address, u64 size, bool write, bool aligned, bool atomic = false) {
    if (!watching) return;
    const unsigned char* at = (const unsigned char*)address;
    if (is_own_stack(at)) return;
    const char* verb = write ? "writes" : "reads";
    Region* r = region_of(at);
    if (r == nullptr || at + size > r->end) {
        // The kernel's constants, and the runtime's own state (threadIdx and the like), are read like arrays.
        if (!write && at >= launch->image && at < launch->bss) return;
        if (at >= &__ehdr_start && at < &_end) return;
        // Name the array that ends or begins nearest.
        int nearest = -1;
        long distance = 0;
        for (int i = 0; i < launch->count; i++) {
            const Span& s = launch->spans[i];
            const long after = (long)(at + size - (s.begin + s.bytes)), before = (long)(s.begin - at);
            const long d = after > before ? after : before;
            if (nearest < 0 || d < distance) nearest = i, distance = d;
        }
        if (r != nullptr && r->span < 0) fault("%s %llu bytes across the end of shared memory", verb, size);
        if (nearest < 0) fault("%s %llu bytes outside of all arrays", verb, size);
        fault("%s %llu bytes outside of all arrays; nearest is array %d of %llu bytes, at byte %ld", verb, size, nearest,
              launch->spans[nearest].bytes, (long)(at - launch->spans[nearest].begin));
    }
    if (aligned && size <= 16 && ((u64)at & (size - 1)) != 0)
        fault("%s %llu bytes at an address that is no multiple of %llu", verb, size, size);
    if (r->span >= 0) {
        Span& s = launch->spans[r->span];
        (write ? s.written : s.read) += size;
    }
    for (u64 i = 0; i < size; i++) one_byte(*r, at + i, write, atomic);
}

void atomic(const void* at, u32 bytes) {
    if (!watching) return;
    Region* r = region_of((const unsigned char*)at);
    if (r != nullptr && r->span >= 0) {  // shared memory publishes nothing to other blocks
        Published*& p = published[block_number];
        if (p == nullptr) p = (Published*)calloc(1, sizeof(Published));
        acquired = ++now;
        p->clock = now;
        for (u32 i = 0; i < thread_count; i++) p->fences[i] = threads[i].fence;
        if (thread->fence > block_synced && block_synced > p->all) p->all = block_synced;
    }
    access(at, bytes, true, true, true);
}

}  // namespace emulation

// The calls that g++ inserts with -fsanitize=thread.
using emulation::access;
#define HOOKS(size)                                                                                       \
    extern "C" void __tsan_read##size(void* at) { access(at, size, false, true); }                        \
    extern "C" void __tsan_write##size(void* at) { access(at, size, true, true); }                        \
    extern "C" void __tsan_unaligned_read##size(void* at) { access(at, size, false, false); }             \
    extern "C" void __tsan_unaligned_write##size(void* at) { access(at, size, true, false); }             \
    extern "C" void __tsan_volatile_read##size(void* at) { access(at, size, false, true); }               \
    extern "C" void __tsan_volatile_write##size(void* at) { access(at, size, true, true); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
extern "C" void __tsan_read_range(void* at, unsigned long size) { access(at, size, false, false); }
extern "C" void __tsan_write_range(void* at, unsigned long size) { access(at, size, true, false); }
extern "C" void __tsan_vptr_update(void**, void*) {}
extern "C" void __tsan_vptr_read(void**) {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_init() {}
