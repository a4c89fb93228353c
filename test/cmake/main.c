/* Classifies one image: the class is the exit status. */
#include "board.h"
#include "surface.h"

static int8_t image[SURFACE_INPUT_BYTES];
static int8_t logits[SURFACE_OUTPUT_BYTES];
_Alignas(SURFACE_ARENA_ALIGNMENT) static uint8_t arena[SURFACE_ARENA_BYTES];

uint32_t firmware(void) {
  for (int i = 0; i < SURFACE_INPUT_BYTES; i++) {
    image[i] = (int8_t)((i * 37 + (i >> 6) * 11) % 256 - 128);
  }
  if (surface_invoke(image, logits, arena) != 0) return FAILED;
  uint32_t best = 0;
  for (uint32_t i = 1; i < SURFACE_OUTPUT_BYTES; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}
