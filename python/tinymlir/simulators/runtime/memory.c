/* The only library functions that a compiled network may call, under the names that the code
 * generator uses for them. */
typedef unsigned char byte;
typedef unsigned int word;
typedef unsigned int size_type;

void *memcpy(void *restrict to, const void *restrict from, size_type size) {
  byte *t = to;
  const byte *f = from;
  if ((((word)t ^ (word)f) & 3) == 0) {
    for (; size && ((word)t & 3); --size) *t++ = *f++;
    for (; size >= 4; size -= 4, t += 4, f += 4) *(word *)t = *(const word *)f;
  }
  for (; size; --size) *t++ = *f++;
  return to;
}

void *memset(void *to, int value, size_type size) {
  byte *t = to;
  const word repeated = 0x01010101u * (byte)value;
  for (; size && ((word)t & 3); --size) *t++ = (byte)value;
  for (; size >= 4; size -= 4, t += 4) *(word *)t = repeated;
  for (; size; --size) *t++ = (byte)value;
  return to;
}

#ifdef __arm__
#define ALIAS(function) __attribute__((alias(#function)))
void *__aeabi_memcpy(void *, const void *, size_type) ALIAS(memcpy);
void *__aeabi_memcpy4(void *, const void *, size_type) ALIAS(memcpy);
void *__aeabi_memcpy8(void *, const void *, size_type) ALIAS(memcpy);

void __aeabi_memset(void *to, size_type size, int value) { memset(to, value, size); }
void __aeabi_memset4(void *, size_type, int) ALIAS(__aeabi_memset);
void __aeabi_memset8(void *, size_type, int) ALIAS(__aeabi_memset);

void __aeabi_memclr(void *to, size_type size) { memset(to, 0, size); }
void __aeabi_memclr4(void *, size_type) ALIAS(__aeabi_memclr);
void __aeabi_memclr8(void *, size_type) ALIAS(__aeabi_memclr);
#endif
