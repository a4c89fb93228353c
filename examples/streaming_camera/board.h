/* What a firmware for this board is, and how it ends. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

enum { FAILED = 100, FAULT = 101 };

/* The firmware: its result is the exit status. */
uint32_t firmware(void);

#endif
