/* Vector table, reset, and the call of the network on a stack of its own.
 * ARMv6-M instructions only, so that every Cortex-M runs it. */
#include "layout.h"

    .syntax unified
    .thumb

    .section .vectors, "a"
    .word TINYMLIR_SYSTEM_STACK_TOP
    .word tinymlir_reset
    .rept 14
    .word tinymlir_fault_entry
    .endr

    .section .text.tinymlir_startup, "ax"

    .global tinymlir_reset
    .type tinymlir_reset, %function
    .thumb_func
tinymlir_reset:
#if __ARM_ARCH >= 7
    /* CPACR: coprocessors 10 and 11, the floating-point and vector unit. */
    ldr r0, =0xE000ED88
    ldr r1, [r0]
    ldr r2, =0x00F00000
    orrs r1, r2
    str r1, [r0]
    dsb
    isb
#endif
#if TINYMLIR_TRAP_UNALIGNED
    /* CCR.UNALIGN_TRP. */
    ldr r0, =0xE000ED14
    ldr r1, [r0]
    movs r2, #8
    orrs r1, r2
    str r1, [r0]
#endif
    bl tinymlir_main
1:  b 1b
    .size tinymlir_reset, . - tinymlir_reset

    .global tinymlir_fault_entry
    .type tinymlir_fault_entry, %function
    .thumb_func
tinymlir_fault_entry:
    /* The faulting stack may be the very thing that is broken. */
    mrs r0, msp
    ldr r0, [r0, #24]
    ldr r1, =TINYMLIR_SYSTEM_STACK_TOP
    mov sp, r1
    ldr r2, =tinymlir_fault
    bx r2
    .size tinymlir_fault_entry, . - tinymlir_fault_entry

/* int tinymlir_call(void): arguments from tinymlir_arguments, by the AAPCS. */
    .global tinymlir_call
    .type tinymlir_call, %function
    .thumb_func
tinymlir_call:
    push {r4-r7, lr}
    mov r4, sp
    ldr r0, =TINYMLIR_ENTRY_STACK
    mov sp, r0
    ldr r5, =tinymlir_arguments
#if TINYMLIR_ARGUMENT_COUNT > 4
    movs r6, r5
    adds r6, #16
    ldr r7, =TINYMLIR_ARGUMENT_COUNT - 4
2:  ldr r1, [r6]
    str r1, [r0]
    adds r6, #4
    adds r0, #4
    subs r7, #1
    bne 2b
#endif
    ldr r0, [r5, #0]
    ldr r1, [r5, #4]
    ldr r2, [r5, #8]
    ldr r3, [r5, #12]
    bl TINYMLIR_INVOKE
    mov sp, r4
    pop {r4-r7, pc}
    .pool
    .size tinymlir_call, . - tinymlir_call
