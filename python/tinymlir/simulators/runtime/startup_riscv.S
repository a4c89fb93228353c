/* Reset, trap and the call of the network on a stack of its own. */
#include "layout.h"

    .section .vectors, "ax"
    .global tinymlir_reset
    .type tinymlir_reset, @function
tinymlir_reset:
    la t0, tinymlir_fault_entry
    csrw mtvec, t0
    li t0, 0x200    /* mstatus.VS: vector instructions, where there are any */
    csrs mstatus, t0
    li sp, TINYMLIR_SYSTEM_STACK_TOP
    call tinymlir_main
1:  j 1b
    .size tinymlir_reset, . - tinymlir_reset

    .section .text.tinymlir_startup, "ax"

    .balign 4
    .global tinymlir_fault_entry
    .type tinymlir_fault_entry, @function
tinymlir_fault_entry:
    csrr a0, mepc
    li sp, TINYMLIR_SYSTEM_STACK_TOP
    call tinymlir_fault
    .size tinymlir_fault_entry, . - tinymlir_fault_entry

/* int tinymlir_call(void): arguments from tinymlir_arguments, by the ILP32 ABI. */
    .global tinymlir_call
    .type tinymlir_call, @function
tinymlir_call:
    addi sp, sp, -16
    sw ra, 12(sp)
    sw s0, 8(sp)
    mv s0, sp
    li sp, TINYMLIR_ENTRY_STACK
    la t0, tinymlir_arguments
#if TINYMLIR_ARGUMENT_COUNT > 8
    addi t1, t0, 32
    mv t2, sp
    li t3, TINYMLIR_ARGUMENT_COUNT - 8
2:  lw t4, 0(t1)
    sw t4, 0(t2)
    addi t1, t1, 4
    addi t2, t2, 4
    addi t3, t3, -1
    bnez t3, 2b
#endif
    lw a0, 0(t0)
    lw a1, 4(t0)
    lw a2, 8(t0)
    lw a3, 12(t0)
    lw a4, 16(t0)
    lw a5, 20(t0)
    lw a6, 24(t0)
    lw a7, 28(t0)
    call TINYMLIR_INVOKE
    mv sp, s0
    lw s0, 8(sp)
    lw ra, 12(sp)
    addi sp, sp, 16
    ret
    .size tinymlir_call, . - tinymlir_call

/* int tinymlir_semihost(int operation, const void *argument): the three instructions
 * that a debugger recognises have to be uncompressed and on one page. */
    .global tinymlir_semihost
    .type tinymlir_semihost, @function
    .balign 16
tinymlir_semihost:
    .option push
    .option norvc
    slli x0, x0, 0x1f
    ebreak
    srai x0, x0, 7
    .option pop
    ret
    .size tinymlir_semihost, . - tinymlir_semihost
