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

static const float LOWEST = -87; /* of what is given to exponential */

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

INLINE lanes exponential(lanes x) {
    const lanes power = nearest(x * 1.44269504f);
    const lanes rest = x - power * 0.693359375f - power * -2.12194440e-4f;
    lanes series = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 0.5f;
    series = series * (rest * rest) + rest + 1.0f;
    return series * (lanes)((__builtin_convertvector(power, whole) + 127) << 23);
}
INLINE lanes gelu(lanes x) {
    const lanes size = size_of(x) * 0.70710678118654752f, t = 1.0f / (size * 0.3275911f + 1.0f);
    lanes series = t * 1.061405429f + -1.453152027f;
    series = series * t + 1.421413741f;
    series = series * t + -0.284496736f;
    series = series * t + 0.254829592f;
    const lanes rest = -(size * size);
    const lanes erf = size_of(1.0f - series * t * exponential(larger(rest, (lanes){0} + LOWEST)));
    return x * 0.5f * ((lanes)((whole)erf | ((whole)x & (int32_t)0x80000000)) + 1.0f);
}

#endif
