/* An MPS2 board (Cortex-M4) as QEMU has it: vectors, and the exit status through semihosting. */
#include "board.h"

#include <stddef.h>

/* All that a generated object may ask of the C library. */
void *memcpy(void *to, const void *from, size_t count) {
  for (size_t i = 0; i < count; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
  return to;
}

void *memset(void *to, int value, size_t count) {
  for (size_t i = 0; i < count; i++) ((uint8_t *)to)[i] = (uint8_t)value;
  return to;
}

static _Noreturn void leave(uint32_t status) {
  enum { SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };
  uint32_t block[2] = {APPLICATION_EXIT, status};
  register uint32_t operation __asm__("r0") = SYS_EXIT_EXTENDED;
  register uint32_t *argument __asm__("r1") = block;
  __asm__ volatile("bkpt 0xab" : : "r"(operation), "r"(argument) : "memory");
  for (;;) {
  }
}

_Noreturn void reset(void) { leave(firmware()); }

static _Noreturn void fault(void) { leave(FAULT); }

extern uint8_t stack_top[];

__attribute__((section(".vectors"), used)) static const void *const vectors[] = {
    stack_top, (const void *)reset, (const void *)fault, (const void *)fault,
};
