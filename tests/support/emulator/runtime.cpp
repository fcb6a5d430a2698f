// The scheduler: runs the blocks of a launch one after the other, and the threads of a block in turns.

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

namespace emulation {

enum { READY, AT_BARRIER, AT_WARP };

Thread* thread;
Index block_index, block_size, grid_size;
unsigned char* dynamic_shared;
u32 dynamic_bytes;
u32 now, block_synced, block_number, thread_count;
Thread threads[MOST_THREADS];

static Warp warps[MOST_THREADS / 32];
static Launch* launched;
static void* scheduler;  // its stack pointer while a fiber runs
static bool failed;
static sigjmp_buf crashed;
static u32 live, arrived;  // threads of the block that have not returned; those of them at the barrier
static int barrier_line, barrier_phase, predicates[2];
static u32 order[MOST_THREADS];

void fault(const char* format, ...) {
    char* text = launched->message;
    const Index t = thread->index, b = block_index;
    int used = snprintf(text, 512, "block (%u, %u, %u), thread (%u, %u, %u): ", b.x, b.y, b.z, t.x, t.y, t.z);
    va_list values;
    va_start(values, format);
    vsnprintf(text + used, 512 - (size_t)used, format, values);
    va_end(values);
    failed = true;
    emulation_switch(&thread->stack, scheduler);
    abort();  // nobody resumes a thread that failed
}

static void wait_as(int why, int line) {
    Thread* me = thread;
    me->waits = why;
    me->line = line;
    while (me->waits != READY) emulation_switch(&me->stack, scheduler);
}

static void release_block() {
    arrived = 0;
    barrier_phase ^= 1;
    predicates[barrier_phase] = 0;
    block_synced = ++now;
    for (u32 i = 0; i < thread_count; i++)
        if (threads[i].waits == AT_BARRIER) threads[i].waits = READY;
}

int barrier(int predicate, int line) {
    if (arrived != 0 && line != barrier_line)
        fault("divergent barrier: comes to the one of line %d, others wait at that of line %d", line, barrier_line);
    const int phase = barrier_phase;
    barrier_line = line;
    predicates[phase] += predicate != 0;
    arrived++;
    if (arrived == live) release_block();
    else wait_as(AT_BARRIER, line);
    return predicates[phase];
}

static void release_warp(Warp& w) {
    w.arrived = 0;
    w.phase ^= 1;
    w.posted[w.phase] = 0;
    // A shuffle orders no memory; only __syncwarp does. (With a partial mask this orders a little too much.)
    if (w.what == SYNC) w.synced = ++now;
    const u32 first = (u32)(&w - warps) * 32;
    for (u32 i = first; i < first + 32 && i < thread_count; i++)
        if (threads[i].waits == AT_WARP) threads[i].waits = READY;
}

const u64* exchange(Collective what, u32 mask, u64 value, int line, u32* took_part) {
    Thread* me = thread;
    Warp& w = *me->warp;
    const u32 bit = 1u << me->lane;
    if ((mask & bit) == 0) fault("line %d: lane %u is not in its own mask %08x", line, me->lane, mask);
    if (w.arrived != 0 && (w.mask != mask || w.what != what || w.line != line))
        fault("lanes of a warp meet in different operations or masks, at lines %d (mask %08x) and %d (mask %08x)",
              line, mask, w.line, w.mask);
    const int phase = w.phase;
    w.what = what;
    w.mask = mask;
    w.line = line;
    w.values[phase][me->lane] = value;
    w.posted[phase] |= bit;
    w.arrived |= bit;
    if ((w.alive & mask & ~w.arrived) == 0) release_warp(w);
    else wait_as(AT_WARP, line);
    *took_part = w.posted[phase];
    return w.values[phase];
}

void fence() { thread->fence = ++now; }

static void entry() {
    launched->run(launched->arguments);
    Thread* me = thread;
    Warp& w = *me->warp;
    me->done = true;
    live--;
    w.alive &= ~(1u << me->lane);
    // Who has returned is waited for no more.
    if (w.arrived != 0 && (w.alive & w.mask & ~w.arrived) == 0) release_warp(w);
    if (live != 0 && arrived == live) release_block();
    emulation_switch(&me->stack, scheduler);
    abort();
}

static u32 random_state;
static u32 random_below(u32 n) {  // a linear congruential generator is random enough for an order
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

static void permute(u32* values, u32 n, int schedule) {
    for (u32 i = 0; i < n; i++) values[i] = schedule == 1 ? n - 1 - i : i;
    if (schedule != 2) return;
    for (u32 i = n; i > 1; i--) {
        const u32 j = random_below(i), last = values[i - 1];
        values[i - 1] = values[j];
        values[j] = last;
    }
}

static void deadlock() {
    const Thread* at[3] = {nullptr, nullptr, nullptr};
    for (u32 i = 0; i < thread_count; i++)
        if (!threads[i].done) at[threads[i].waits] = &threads[i];
    const Thread* one = at[AT_WARP] != nullptr ? at[AT_WARP] : at[AT_BARRIER];
    snprintf(launched->message, 512,
             "block (%u, %u, %u), thread (%u, %u, %u): deadlock: waits at a %s in line %d that not all others reach%s",
             block_index.x, block_index.y, block_index.z, one->index.x, one->index.y, one->index.z,
             one->waits == AT_WARP ? "warp operation" : "barrier", one->line,
             at[AT_WARP] != nullptr && at[AT_BARRIER] != nullptr ? "; other threads wait at a barrier" : "");
    failed = true;
}

static void run_block(Index index, int schedule) {
    block_index = index;
    live = thread_count;
    arrived = 0;
    barrier_phase = predicates[0] = predicates[1] = 0;
    block_synced = ++now;
    const u32 n = thread_count, warp_count = (n + 31) / 32;
    memset(warps, 0, warp_count * sizeof(Warp));
    for (u32 i = 0; i < n; i++) {
        Thread& t = threads[i];
        const Index place = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
        t = Thread{place, i, i % 32, &warps[i / 32], nullptr, READY, 0, now, false};
        t.warp->alive |= 1u << t.lane;
        t.warp->synced = now;
        prepare_stack(t, entry);
    }
    u32 warp_order[MOST_THREADS / 32], lanes[32], filled = 0;
    permute(warp_order, warp_count, schedule);
    for (u32 w = 0; w < warp_count; w++) {
        const u32 first = warp_order[w] * 32, size = n - first < 32 ? n - first : 32;
        permute(lanes, size, schedule);
        for (u32 i = 0; i < size; i++) order[filled++] = first + lanes[i];
    }
    while (live != 0) {
        bool any = false;
        for (u32 low = 0, high; low < n; low = high) {
            for (high = low; high < n && order[high] / 32 == order[low] / 32;) high++;
            // A warp runs until all of its lanes wait for the block or have returned.
            for (bool again = true; again;) {
                again = false;
                for (u32 k = low; k < high; k++) {
                    Thread& t = threads[order[k]];
                    if (t.done || t.waits != READY) continue;
                    any = again = true;
                    thread = &t;
                    emulation_switch(&scheduler, t.stack);
                    if (failed) return;
                }
            }
        }
        if (!any) return deadlock();
    }
}

static void on_crash(int, siginfo_t* info, void*) {
    const unsigned char *at = (const unsigned char*)info->si_addr, *base = stacks();
    const Index t = thread->index, b = block_index;
    const bool overflow = at >= base && at < base + MOST_THREADS * STACK;
    snprintf(launched->message, 512, "block (%u, %u, %u), thread (%u, %u, %u): %s %p", b.x, b.y, b.z, t.x, t.y, t.z,
             overflow ? "the stack of a thread overflows at" : "crashes at address", (const void*)at);
    failed = true;
    siglongjmp(crashed, 1);
}

static void run_blocks(Launch& launch) {
    const u64 blocks = (u64)grid_size.x * grid_size.y * grid_size.z;
    random_state = 12345;
    u32* numbers = (u32*)malloc(blocks * sizeof(u32));
    permute(numbers, (u32)blocks, launch.schedule);
    for (u64 i = 0; i < blocks && !failed; i++) {
        const u32 b = numbers[i];
        block_number = b;
        if (watching) watch_block();
        run_block({b % grid_size.x, b / grid_size.x % grid_size.y, b / grid_size.x / grid_size.y}, launch.schedule);
    }
    free(numbers);
}

// Run a launch; 0, or 1 with the fault in its message.
extern "C" int emulate(Launch* launch) {
    static unsigned char signal_stack[64 * 1024];
    launched = launch;
    failed = false;
    now = 1;
    grid_size = {launch->grid[0], launch->grid[1], launch->grid[2]};
    block_size = {launch->block[0], launch->block[1], launch->block[2]};
    thread_count = block_size.x * block_size.y * block_size.z;
    // Nothing may count on what shared memory holds at first: 0xff is a NaN, and -1.
    dynamic_bytes = launch->shared;
    dynamic_shared = (unsigned char*)aligned_alloc(128, (launch->shared + 128) / 128 * 128);
    memset(dynamic_shared, 0xff, launch->shared);
    if (launch->bss != nullptr) memset(launch->bss, 0xff, (size_t)(launch->bss_end - launch->bss));
    if (launch->checked) watch_launch(*launch);

    stack_t aside = {}, aside_before;
    aside.ss_sp = signal_stack;
    aside.ss_size = sizeof signal_stack;
    sigaltstack(&aside, &aside_before);
    struct sigaction act = {}, before[3];
    act.sa_sigaction = on_crash;
    act.sa_flags = SA_SIGINFO | SA_ONSTACK;
    const int signals[3] = {SIGSEGV, SIGBUS, SIGFPE};
    for (int i = 0; i < 3; i++) sigaction(signals[i], &act, &before[i]);
    if (sigsetjmp(crashed, 1) == 0) run_blocks(*launch);
    for (int i = 0; i < 3; i++) sigaction(signals[i], &before[i], nullptr);
    sigaltstack(&aside_before, nullptr);

    if (watching) watch_end();
    free(dynamic_shared);
    return failed ? 1 : 0;
}

}  // namespace emulation
