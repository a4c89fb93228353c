/* The firmware around the network: reads samples from input.bin through semihosting, runs the
 * network on each, appends what comes out to output.bin, and leaves a report. It has no writable
 * globals, so that whatever wants some in the image can only be the network. */
#include "layout.h"

typedef unsigned char byte;
typedef unsigned int word;

struct buffer {
  byte *data;
  word size;
};

static const struct buffer inputs[] = {TINYMLIR_INPUTS};
static const struct buffer outputs[] = {TINYMLIR_OUTPUTS};
/* The stack, the arena, and all that the network has no business to write to. */
static const struct buffer painted[] = {TINYMLIR_PAINTED};
static const struct buffer gaps[] = {TINYMLIR_GAPS};
const word tinymlir_arguments[] = {TINYMLIR_ARGUMENTS};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

int tinymlir_call(void);

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT = 0x18 };
enum { READ_BINARY = 1, WRITE_BINARY = 5, APPLICATION_EXIT = 0x20026 };
enum { FINISHED = 1, FAULTED = 2 };

/* What the simulator's side reads back; see qemu.py. */
struct report {
  word kind, samples, status, lowest_stack, damage, fault_pc, fault_address;
};

#ifdef __riscv
int tinymlir_semihost(int operation, const void *argument);
#else
static int tinymlir_semihost(int operation, const void *argument) {
  register int r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}
#endif

static int open_file(const char *name, word length, word mode) {
  const word block[] = {(word)name, mode, length};
  return tinymlir_semihost(SYS_OPEN, block);
}

static void close_file(int file) {
  const word block[] = {(word)file};
  tinymlir_semihost(SYS_CLOSE, block);
}

/* Bytes that were not transferred. */
static int transfer(int operation, int file, const void *data, word size) {
  const word block[] = {(word)file, (word)data, size};
  return size ? tinymlir_semihost(operation, block) : 0;
}

static void finish(const struct report *report) {
  int file = open_file("report.bin", 10, WRITE_BINARY);
  transfer(SYS_WRITE, file, report, sizeof *report);
  close_file(file);
  tinymlir_semihost(SYS_EXIT, (const void *)APPLICATION_EXIT);
  for (;;) {
  }
}

static void paint(const struct buffer *buffer) {
  for (word i = 0; i < buffer->size; ++i) ((volatile byte *)buffer->data)[i] = TINYMLIR_PAINT;
}

/* First byte of the buffer that no longer is as painted, or its end. */
static const byte *first_touched(const struct buffer *buffer) {
  const byte *p = buffer->data, *end = p + buffer->size;
  while (p < end && *p == TINYMLIR_PAINT) ++p;
  return p;
}

void tinymlir_fault(word pc) {
  struct report report = {.kind = FAULTED, .fault_pc = pc};
#ifdef __riscv
  __asm__ volatile("csrr %0, mtval" : "=r"(report.fault_address));
#elif __ARM_ARCH >= 7
  /* CFSR says whether BFAR or MMFAR is valid. */
  const word status = *(volatile word *)0xE000ED28;
  if (status & 0x8000) report.fault_address = *(volatile word *)0xE000ED38;
  else if (status & 0x80) report.fault_address = *(volatile word *)0xE000ED34;
#endif
  finish(&report);
}

static int read_sample(int file) {
  for (word i = 0; i < COUNT(inputs); ++i)
    if (transfer(SYS_READ, file, inputs[i].data, inputs[i].size)) return 0;
  return 1;
}

void tinymlir_main(void) {
  struct report report = {.kind = FINISHED};
  for (word i = 0; i < COUNT(painted); ++i) paint(&painted[i]);
  for (word i = 0; i < COUNT(gaps); ++i) paint(&gaps[i]);

  int input = open_file("input.bin", 9, READ_BINARY);
  int output = open_file("output.bin", 10, WRITE_BINARY);
  while (read_sample(input)) {
    const word status = (word)tinymlir_call();
    const byte level = (byte)status;
    if (!TINYMLIR_RETURNS_LEVEL && status) {
      report.status = status;
      break;
    }
    for (word i = 0; i < COUNT(outputs); ++i)
      transfer(SYS_WRITE, output, outputs[i].data, outputs[i].size);
    if (TINYMLIR_RETURNS_LEVEL) transfer(SYS_WRITE, output, &level, 1);
    ++report.samples;
  }
  close_file(output);

  report.lowest_stack = (word)first_touched(&painted[0]);
  for (word i = 0; i < COUNT(gaps) && !report.damage; ++i) {
    const byte *p = first_touched(&gaps[i]);
    if (p < gaps[i].data + gaps[i].size) report.damage = (word)p;
  }
  finish(&report);
}
