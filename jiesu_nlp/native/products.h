/* Products of 8-bit integers, within 127 to either side, added up to 32 bits; exact, on whatever the machine has. */
#ifndef JIESU_PRODUCTS_H
#define JIESU_PRODUCTS_H

#include <stddef.h>
#include <stdint.h>

/* The right side of a product is packed: in panels of 16 outputs, by 4 inputs of each at a time (64 bytes), its inputs
 * filled up to a multiple of 64 with zeros. */
enum { PANEL = 16, STEP = 64, BLOCK = 32 };
static inline size_t up_to(size_t n, size_t whole) { return (n + whole - 1) / whole * whole; }
static inline size_t packed_at(size_t output, size_t input, size_t inputs) {
    return output / PANEL * PANEL * inputs + input / 4 * 4 * PANEL + output % PANEL * 4 + input % 4;
}

typedef struct {
    void (*begin)(void), (*end)(void); /* around products, in the thread that asks for them; may be NULL */
    /* out[BLOCK][16 * panels], its rows `step` apart, of rows[BLOCK][inputs], `stride` apart, and of `panels` panels,
     * `apart` bytes apart; inputs is a multiple of STEP. */
    void (*multiply)(const int8_t *rows, size_t stride, const int8_t *panel, size_t apart, size_t panels,
                     size_t inputs, int32_t *out, size_t step);
} kernel;

/* From the plainest, 0, to the fastest that this machine has; NULL beyond that. */
const kernel *kernel_of(int level);

#endif
