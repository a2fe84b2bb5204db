/* A ModernBERT in 8-bit integers: what it is made of, and what one call works with. */
#ifndef JIESU_ENCODER_H
#define JIESU_ENCODER_H

#include "native.h"
#include "products.h"

/* Columns in which numbers are summed; outputs whose products are asked for at once. */
enum { SIDE = 16, GROUP = 4 * PANEL };

typedef struct {
    const int8_t *packed;
    const float *scale;
    size_t inputs, outputs;
} linear;

typedef struct {
    linear query_key_value, attended, gated, projected;
    const float *norm, *next_norm, *cosine, *sine;
    size_t reach;
} layer;

typedef struct encoder encoder;
typedef struct desk desk;

/* Logits [tokens][columns] of a text's tokens: the same steps, compiled for several kinds of machine. */
typedef void reader(const encoder *, const desk *, const int64_t *ids, size_t tokens, float *logits);
reader read_plain, read_avx2, read_avx512;

struct encoder {
    size_t layers, width, heads, inner, entries, columns, positions, size; /* size: of a head */
    float epsilon, root; /* root: by what scores are multiplied */
    const kernel *kernel;
    reader *read;
    const int8_t *embedding;
    const float *embedding_scale, *first_norm, *last_norm, *bias;
    linear answer;
    int8_t *packed;
    layer each[];
};

/* What one call works with. t: tokens, filled up, with room for a step beyond; d: size of a head, filled up; deep: the
 * larger of width and inner, filled up. */
struct desk {
    size_t t, d, deep;
    float *x;                               /* [t][width] */
    int8_t *query, *key, *value;            /* [heads][t][d]; keys packed; values packed, [width][t] */
    float *query_scale, *key_scale;         /* [heads][t] */
    float *values, *value_most, *value_scale; /* [t][width], [width], [width] */
    float *row, *seen, *scores;             /* [BLOCK][deep], [BLOCK][width], [t] */
    int8_t *rows, *high, *low;              /* [BLOCK][deep], [BLOCK][t], [BLOCK][t] */
    float *scale;                           /* [BLOCK]: of the rows */
    int32_t *sums, *more;                   /* [BLOCK][t], [BLOCK][GROUP] */
};

#endif
