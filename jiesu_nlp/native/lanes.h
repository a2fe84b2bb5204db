/* Numbers side by side: LANES of them, as many as a kind of machine computes at once. The functions are those of
 * `models/modernbert.py`, operation by operation. */
#ifndef JIESU_LANES_H
#define JIESU_LANES_H

#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t whole __attribute__((vector_size(4 * LANES)));
typedef int16_t shorts __attribute__((vector_size(2 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES)));

static const float LOWEST = -126; /* of what is given to power_of_two */

INLINE lanes load(const float *p) {
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void store(float *p, lanes v) { memcpy(p, &v, sizeof v); }
INLINE lanes numbers(const int32_t *p) {
    whole v;
    memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, lanes);
}
INLINE void store_bytes(int8_t *p, whole v) {
#if LANES == 16 && defined(__AVX512F__)
    const __m128i b = _mm512_cvtepi32_epi8((__m512i)v); /* one instruction, which the compiler does not find */
#else
    const bytes b = __builtin_convertvector(__builtin_convertvector(v, shorts), bytes);
#endif
    memcpy(p, &b, sizeof b);
}
INLINE lanes pick(whole when, lanes a, lanes b) { return (lanes)((when & (whole)a) | (~when & (whole)b)); }
INLINE lanes larger(lanes a, lanes b) { return pick(a > b, a, b); }
INLINE lanes size_of(lanes a) { return (lanes)((whole)a & 0x7fffffff); }
INLINE lanes nearest(lanes a) { return a + 12582912.0f - 12582912.0f; } /* within 2^22, ties to even */
INLINE whole rounded(lanes a) { return __builtin_convertvector(nearest(a), whole); }

INLINE float largest(lanes v) {
    float s[LANES];
    store(s, v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] = s[i] > s[i + half] ? s[i] : s[i + half];
    return s[0];
}

/* From the factor of the highest power on. */
INLINE lanes polynomial(const float *factors, int n, lanes x) {
    lanes total = (lanes){0} + factors[0];
    for (int i = 1; i < n; i++) total = total * x + factors[i];
    return total;
}

INLINE lanes power_of_two(lanes x) {
    static const float factors[] = {1.535336188319500e-4f, 1.339887440266574e-3f, 9.618437357674640e-3f,
                                    5.550332471162809e-2f, 2.402264791363012e-1f, 6.931472028550421e-1f, 1};
    const lanes power = nearest(x), part = polynomial(factors, 7, x - power);
    return part * (lanes)((__builtin_convertvector(power, whole) + 127) << 23);
}
INLINE lanes gelu(lanes x) {
    static const float factors[] = {4.30638e-5f,     2.765672e-4f,    1.520143e-4f, 9.2705272e-3f,
                                    4.22820123e-2f, 7.05230784e-2f, 1};
    const lanes all = (lanes){0} + 6.0f, apart = size_of(x) * 0.70710678118654752f;
    const lanes size = pick(apart < all, apart, all);
    lanes power = polynomial(factors, 7, size);
    power *= power, power *= power, power *= power, power *= power;
    const lanes erf = 1.0f - 1.0f / power;
    return x * 0.5f * ((lanes)(((whole)erf & 0x7fffffff) | ((whole)x & (int32_t)0x80000000)) + 1.0f);
}

#endif
