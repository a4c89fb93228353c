/* A camera hands over a few rows at a time: the frame is never in memory. */
#include "board.h"
#include "surface.h"

/* Rows that the camera has at once. */
enum { LINES = 3 };

_Alignas(SURFACE_ARENA_ALIGNMENT) static uint8_t arena[SURFACE_ARENA_BYTES];
static int8_t lines[LINES * SURFACE_INPUT_ROW_BYTES];
static int8_t logits[SURFACE_OUTPUT_BYTES];

/* What a driver would do: write the next rows to 'lines', and tell how many. */
static int camera_read(int row) {
  int count = row + LINES <= SURFACE_INPUT_ROWS ? LINES : SURFACE_INPUT_ROWS - row;
  int first = row * SURFACE_INPUT_ROW_BYTES;
  for (int i = first; i < first + count * SURFACE_INPUT_ROW_BYTES; i++) {
    lines[i - first] = (int8_t)((i * 37 + (i >> 6) * 11) % 256 - 128);
  }
  return count;
}

uint32_t firmware(void) {
  surface_begin(arena);
  for (int row = 0; row < SURFACE_INPUT_ROWS;) {
    int count = camera_read(row);
    row += count;
    if (surface_push_rows(arena, lines, count) != SURFACE_INPUT_ROWS - row) return FAILED;
  }
  if (surface_finish(arena, logits) != 0) return FAILED;
  uint32_t best = 0;
  for (uint32_t i = 1; i < SURFACE_OUTPUT_BYTES; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}
