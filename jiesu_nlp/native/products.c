#define _DEFAULT_SOURCE /* for syscall and getauxval */
#include "products.h"

#include <string.h>

/* The panel is laid out anew, an output's inputs side by side, in 16 bits, for loops that compilers know. */
static void plain(const int8_t *rows, size_t stride, const int8_t *panel, size_t apart, size_t panels, size_t inputs,
                  int32_t *out, size_t step) {
    for (size_t p = 0; p < panels; p++)
        for (size_t from = 0; from < inputs; from += STEP) {
            int16_t a[STEP], b[PANEL][STEP];
            for (size_t o = 0; o < PANEL; o++)
                for (size_t k = 0; k < STEP; k++) b[o][k] = panel[p * apart + packed_at(o, from + k, inputs)];
            for (size_t r = 0; r < BLOCK; r++) {
                int32_t *to = out + r * step + p * PANEL;
                for (size_t k = 0; k < STEP; k++) a[k] = rows[r * stride + from + k];
                for (size_t o = 0; o < PANEL; o++) {
                    int32_t sum = 0;
                    for (size_t k = 0; k < STEP; k++) sum += a[k] * b[o][k];
                    to[o] = from ? to[o] + sum : sum;
                }
            }
        }
}

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#define ON_X86
#include <immintrin.h>

__attribute__((target("avx2"))) static void avx2(const int8_t *rows, size_t stride, const int8_t *panel, size_t apart,
                                                 size_t panels, size_t inputs, int32_t *out, size_t step) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (size_t p = 0; p < panels; p++)
        for (size_t r = 0; r < BLOCK; r += 4) {
            __m256i sum[4][2];
            for (int i = 0; i < 4; i++) sum[i][0] = sum[i][1] = _mm256_setzero_si256();
            for (size_t k = 0; k < inputs; k += 4) {
                const __m256i *b = (const void *)(panel + p * apart + k * PANEL);
                for (int i = 0; i < 4; i++) {
                    int32_t four;
                    memcpy(&four, rows + (r + i) * stride + k, 4);
                    __m256i a = _mm256_set1_epi32(four), size = _mm256_abs_epi8(a);
                    for (int half = 0; half < 2; half++) { /* within 127 twice 16 bits hold the sum of two products */
                        __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(_mm256_loadu_si256(b + half), a));
                        sum[i][half] = _mm256_add_epi32(sum[i][half], _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            for (int i = 0; i < 4; i++)
                for (int half = 0; half < 2; half++)
                    _mm256_storeu_si256((void *)(out + (r + i) * step + p * PANEL + 8 * half), sum[i][half]);
        }
}

/* The instruction takes one side without sign: the panel's is raised by 128, which adds 128 times the row's sum. */
__attribute__((target("avx512f,avx512bw,avx512vnni"))) static void vnni(const int8_t *rows, size_t stride,
                                                                        const int8_t *panel, size_t apart,
                                                                        size_t panels, size_t inputs, int32_t *out,
                                                                        size_t step) {
    const __m512i raise = _mm512_set1_epi8((char)0x80);
    for (size_t r = 0; r < BLOCK; r += 8) {
        __m512i extra[8];
        for (int i = 0; i < 8; i++) {
            __m512i sum = _mm512_setzero_si512();
            for (size_t k = 0; k < inputs; k += STEP)
                sum = _mm512_dpbusd_epi32(sum, raise, _mm512_loadu_si512(rows + (r + i) * stride + k));
            extra[i] = _mm512_set1_epi32(-_mm512_reduce_add_epi32(sum));
        }
        for (size_t p = 0; p < panels; p += 2) {
            int two = p + 1 < panels;
            const int8_t *left = panel + p * apart, *right = two ? left + apart : left;
            __m512i first[8], second[8];
            for (int i = 0; i < 8; i++) first[i] = second[i] = extra[i];
            for (size_t k = 0; k < inputs; k += 4) {
                __m512i b = _mm512_xor_si512(_mm512_loadu_si512(left + k * PANEL), raise);
                __m512i c = _mm512_xor_si512(_mm512_loadu_si512(right + k * PANEL), raise);
                for (int i = 0; i < 8; i++) {
                    int32_t four;
                    memcpy(&four, rows + (r + i) * stride + k, 4);
                    __m512i a = _mm512_set1_epi32(four);
                    first[i] = _mm512_dpbusd_epi32(first[i], b, a);
                    second[i] = _mm512_dpbusd_epi32(second[i], c, a);
                }
            }
            for (int i = 0; i < 8; i++) {
                int32_t *to = out + (r + i) * step + p * PANEL;
                _mm512_storeu_si512(to, first[i]);
                if (two) _mm512_storeu_si512(to + PANEL, second[i]);
            }
        }
    }
}

#if defined(__linux__)
#define ON_AMX
#include <sys/syscall.h>
#include <unistd.h>

#define AMX __attribute__((target("amx-tile,amx-int8")))

/* Eight registers of 16 rows of 64 bytes. Constant, for the compiler believes that only its first bytes are read. */
AMX static void tiles(void) {
    static const struct {
        uint8_t palette, start, none[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&shape);
}

AMX static void no_tiles(void) { _tile_release(); }

AMX static void amx(const int8_t *rows, size_t stride, const int8_t *panel, size_t apart, size_t panels, size_t inputs,
                    int32_t *out, size_t step) {
    for (size_t p = 0; p < panels; p += 2) {
        int two = p + 1 < panels;
        const int8_t *left = panel + p * apart, *right = two ? left + apart : left;
        int32_t *to = out + p * PANEL, *below = to + 16 * step;
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (size_t k = 0; k < inputs; k += STEP) {
            _tile_loadd(4, rows + k, stride);
            _tile_loadd(5, rows + 16 * stride + k, stride);
            _tile_loadd(6, left + k * PANEL, 64);
            _tile_dpbssd(0, 4, 6);
            _tile_dpbssd(1, 5, 6);
            if (two) {
                _tile_loadd(7, right + k * PANEL, 64);
                _tile_dpbssd(2, 4, 7);
                _tile_dpbssd(3, 5, 7);
            }
        }
        _tile_stored(0, to, step * sizeof *out);
        _tile_stored(1, below, step * sizeof *out);
        if (two) {
            _tile_stored(2, to + PANEL, step * sizeof *out);
            _tile_stored(3, below + PANEL, step * sizeof *out);
        }
    }
}

/* Linux lends the registers to a process that asks for them, if its threads' signal stacks have room for them. */
static int tiles_lent(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#endif
#endif

#if defined(__aarch64__) && defined(__GNUC__) && (defined(__linux__) || defined(__ARM_FEATURE_DOTPROD))
#define ON_ARM
#include <arm_neon.h>
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if !defined(__ARM_FEATURE_DOTPROD)
__attribute__((target("arch=armv8.2-a+dotprod")))
#endif
static void dot(const int8_t *rows, size_t stride, const int8_t *panel, size_t apart, size_t panels, size_t inputs,
                int32_t *out, size_t step) {
    for (size_t p = 0; p < panels; p++)
        for (size_t r = 0; r < BLOCK; r += 4) {
            int32x4_t sum[4][4];
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) sum[i][j] = vdupq_n_s32(0);
            for (size_t k = 0; k < inputs; k += 16) {
                const int8_t *b = panel + p * apart + k * PANEL;
                int8x16_t a[4];
                for (int i = 0; i < 4; i++) a[i] = vld1q_s8(rows + (r + i) * stride + k);
#define FOUR_INPUTS(lane)                                                                                              \
    for (int j = 0; j < 4; j++) {                                                                                      \
        const int8x16_t outputs = vld1q_s8(b + lane * 4 * PANEL + 16 * j);                                             \
        for (int i = 0; i < 4; i++) sum[i][j] = vdotq_laneq_s32(sum[i][j], outputs, a[i], lane);                       \
    }
                FOUR_INPUTS(0)
                FOUR_INPUTS(1)
                FOUR_INPUTS(2)
                FOUR_INPUTS(3)
#undef FOUR_INPUTS
            }
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++) vst1q_s32(out + (r + i) * step + p * PANEL + 4 * j, sum[i][j]);
        }
}

static int has_dot(void) {
#if defined(__ARM_FEATURE_DOTPROD)
    return 1;
#else
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
}
#endif

const kernel *kernel_of(int level) {
    static const kernel all[] = {
        {NULL, NULL, plain},
#ifdef ON_X86
        {NULL, NULL, avx2},
        {NULL, NULL, vnni},
#ifdef ON_AMX
        {tiles, no_tiles, amx},
#endif
#endif
#ifdef ON_ARM
        {NULL, NULL, dot},
#endif
    };
    int best = 0;
#ifdef ON_ARM
    best = has_dot();
#endif
#ifdef ON_X86
    if (__builtin_cpu_supports("avx2")) best = 1;
    int wide = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"); /* steps_avx512.c wants all */
    if (wide && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")) best = 2;
#ifdef ON_AMX
    if (best == 2 && __builtin_cpu_supports("amx-int8") && tiles_lent()) best = 3;
#endif
#endif
    return level < 0 || level > best ? NULL : &all[level];
}
