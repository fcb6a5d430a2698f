// Fibers: a stack for each thread of a block, and the switch between two of them.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include "runtime.h"

namespace emulation {

constexpr u32 MOST_THREADS = 1024;
constexpr unsigned long STACK = 256 * 1024;

// Save the running stack pointer and go on with another.
extern "C" void emulation_switch(void** save, void* to);

#if defined(__x86_64__)
// The callee-saved registers of the System V ABI; the rest the compiler saves, since this is a call.
asm(R"(.text
.globl emulation_switch
.type emulation_switch,@function
emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulation_switch,.-emulation_switch
)");
constexpr int SAVED = 6;  // words below the return address
constexpr int ENTRY = 6;  // where among them `entry` goes: the return address
#elif defined(__aarch64__)
// x19 to x30 and d8 to d15 of the AAPCS64.
asm(R"(.text
.globl emulation_switch
.type emulation_switch,%function
emulation_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulation_switch,.-emulation_switch
)");
constexpr int SAVED = 20;
constexpr int ENTRY = 11;  // x30, the link register
#else
#error "the emulator knows x86-64 and AArch64"
#endif

// Stacks of all threads, each with a page below it that cannot be touched: an overflow is a fault, not a silent one.
inline unsigned char* stacks() {
    static unsigned char* memory = nullptr;
    if (memory == nullptr) {
        const long page = sysconf(_SC_PAGESIZE);
        memory = (unsigned char*)mmap(nullptr, MOST_THREADS * STACK, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        for (u32 i = 0; i < MOST_THREADS; i++) mprotect(memory + i * STACK, (unsigned long)page, PROT_NONE);
    }
    return memory;
}

// Make a thread's stack ready to enter a function that never returns. The tops are staggered: with all of them a
// power of two apart, 256 fibers would share the few lines of one cache set.
inline void prepare_stack(Thread& t, void (*entry)()) {
    void** top = (void**)(stacks() + (t.rank + 1) * STACK - 128 - t.rank * 320 % 16384 / 64 * 64);
#if defined(__x86_64__)
    *--top = nullptr;  // where a return address of `entry` would be: keeps the stack aligned as after a call
#endif
    top -= SAVED + (ENTRY == SAVED);
    for (int i = 0; i < SAVED; i++) top[i] = nullptr;
    top[ENTRY] = (void*)entry;
    t.stack = top;
}

}  // namespace emulation
