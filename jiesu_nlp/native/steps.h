/* What a ModernBERT computes, in which order, is defined by `models/modernbert.py`: the same steps to the same bits, a
 * text at a time in blocks of tokens whose products stay in the nearest memory. Included once for each kind of machine:
 * READER is the name of what comes of it. */
#include "encoder.h"
#include "lanes.h"

#include <math.h>

static const float LEVELS = 127, SHARES = 128 * 128 - 1, TINY = 1e-30f;

/* A row of n as 8-bit integers; its scale. */
INLINE float quantise(const float *x, size_t n, int8_t *to) {
    lanes most = {0};
    for (size_t i = 0; i < n; i += LANES) most = larger(size_of(load(x + i)), most);
    const float found = largest(most), by = found > TINY ? found : TINY, factor = LEVELS / by;
    for (size_t i = 0; i < n; i += LANES) store_bytes(to + i, rounded(load(x + i) * factor));
    return by / LEVELS;
}

/* In SIDE columns, then in pairs: 16 to 8, to 4, to 2. */
INLINE float sum(const lanes *columns) {
    float s[SIDE];
    for (int i = 0; i < SIDE; i += LANES) store(s + i, columns[i / LANES]);
    for (int half = SIDE / 2; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

INLINE void normalise(const encoder *e, const float *x, const float *weight, float *to) {
    const size_t n = e->width;
    lanes total[SIDE / LANES] = {{0}}, squares[SIDE / LANES] = {{0}};
    for (size_t i = 0; i < n; i += LANES) total[i / LANES % (SIDE / LANES)] += load(x + i);
    const float mean = sum(total) / (float)n;
    for (size_t i = 0; i < n; i += LANES) {
        const lanes apart = load(x + i) - mean;
        squares[i / LANES % (SIDE / LANES)] += apart * apart;
        store(to + i, apart);
    }
    const float by = 1.0f / sqrtf(sum(squares) / (float)n + e->epsilon);
    for (size_t i = 0; i < n; i += LANES) store(to + i, load(to + i) * by * load(weight + i));
}

/* The block's quantised rows times some outputs of a linear map, not yet scaled; at most GROUP, a multiple of PANEL. */
INLINE void group(const encoder *e, const desk *d, const linear *map, size_t from, size_t outputs, int32_t *out) {
    const size_t inputs = up_to(map->inputs, STEP), apart = PANEL * inputs;
    e->kernel->multiply(d->rows, d->deep, map->packed + from / PANEL * apart, apart, outputs / PANEL, inputs, out,
                        GROUP);
}
/* What such sums stand for; scale: of the outputs from the first of them on. */
INLINE lanes scaled(const desk *d, const int32_t *sums, size_t r, size_t i, const float *scale) {
    return numbers(sums + r * GROUP + i) * d->scale[r] * load(scale + i);
}

/* Rows of n, `step` apart, as the block's 8-bit rows. */
INLINE void take(const desk *d, const float *x, size_t step, size_t n, size_t rows) {
    for (size_t r = 0; r < rows; r++) d->scale[r] = quantise(x + r * step, n, d->rows + r * d->deep);
}
/* The same of rows that are normalised first. */
INLINE void take_normalised(const encoder *e, const desk *d, const float *x, const float *weight, size_t rows) {
    for (size_t r = 0; r < rows; r++) {
        normalise(e, x + r * e->width, weight, d->row);
        d->scale[r] = quantise(d->row, e->width, d->rows + r * d->deep);
    }
}
INLINE size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* x += the map of the block's quantised rows */
INLINE void add(const encoder *e, const desk *d, const linear *map, float *x, size_t rows) {
    for (size_t from = 0; from < map->outputs; from += GROUP) {
        const size_t n = least(GROUP, map->outputs - from);
        group(e, d, map, from, n, d->sums);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < n; i += LANES) {
                float *to = x + r * e->width + from + i;
                store(to, load(to) + scaled(d, d->sums, r, i, map->scale + from));
            }
    }
}

/* A head's part of a block's queries or keys, turned by their tokens' places; d->row takes it. */
INLINE void turn(const encoder *e, const desk *d, const layer *l, size_t from, size_t first, size_t rows) {
    const size_t half = e->size / 2;
    for (size_t r = 0; r < rows; r++) {
        const float *scale = l->query_key_value.scale + from;
        const float *cosine = l->cosine + (first + r) * half, *sine = l->sine + (first + r) * half;
        float *to = d->row + r * e->size;
        for (size_t i = 0; i < half; i += LANES) {
            lanes a = scaled(d, d->sums, r, i, scale), c = load(cosine + i);
            lanes b = scaled(d, d->sums, r, half + i, scale), s = load(sine + i);
            store(to + i, a * c - b * s);
            store(to + half + i, b * c + a * s);
        }
    }
}

/* Queries, keys and values of a block of tokens. */
INLINE void project(const encoder *e, const desk *d, const layer *l, size_t first, size_t rows) {
    const size_t size = e->size;
    int8_t bytes[GROUP];
    const float *x = d->x + first * e->width;
    if (l->norm) take_normalised(e, d, x, l->norm, rows);
    else take(d, x, e->width, e->width, rows);
    for (size_t head = 0; head < e->heads; head++) {
        group(e, d, &l->query_key_value, head * size, size, d->sums);
        turn(e, d, l, head * size, first, rows);
        for (size_t r = 0; r < rows; r++)
            d->query_scale[head * d->t + first + r] =
                quantise(d->row + r * size, size, d->query + (head * d->t + first + r) * d->d);
        group(e, d, &l->query_key_value, e->width + head * size, size, d->sums);
        turn(e, d, l, e->width + head * size, first, rows);
        for (size_t r = 0; r < rows; r++) {
            const size_t token = first + r;
            int8_t *to = d->key + head * d->t * d->d + packed_at(token, 0, d->d);
            d->key_scale[head * d->t + token] = quantise(d->row + r * size, size, bytes);
            for (size_t i = 0; i < size; i += 4) memcpy(to + i * PANEL, bytes + i, 4);
        }
        const size_t from = 2 * e->width + head * size;
        group(e, d, &l->query_key_value, from, size, d->sums);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < size; i += LANES) {
                lanes v = scaled(d, d->sums, r, i, l->query_key_value.scale + from);
                store(d->values + (first + r) * e->width + head * size + i, v);
                float *most = d->value_most + head * size + i;
                store(most, larger(size_of(v), load(most)));
            }
    }
}

/* Values of all tokens as 8-bit integers, a scale a column. */
INLINE void pack_values(const encoder *e, const desk *d, size_t tokens) {
    for (size_t i = 0; i < e->width; i += LANES) {
        const lanes by = larger(load(d->value_most + i), (lanes){0} + TINY), factor = LEVELS / by;
        store(d->value_scale + i, by / LEVELS);
        for (size_t token = 0; token < tokens; token += 4) { /* of four tokens a byte each, which stand together */
            whole four = {0};
            for (size_t k = 4; k--;)
                four = four << 8 | (rounded(load(d->values + (token + k) * e->width + i) * factor) & 255);
            memcpy(d->value + packed_at(i, token, d->t), &four, sizeof four);
        }
    }
}

/* What a row of scores leaves of each key, in two digits; their sum. */
INLINE int32_t share(const int32_t *sums, float by, const float *scale, size_t from, size_t n, size_t begin, size_t end,
                     float *scores, int8_t *high, int8_t *low) {
    whole place, counts = {0};
    lanes most = (lanes){0} + -INFINITY;
    for (int i = 0; i < LANES; i++) place[i] = (int32_t)from + i;
    for (size_t i = 0; i < n; i += LANES, place += LANES) {
        const whole seen = (place >= (int32_t)begin) & (place < (int32_t)end);
        const lanes score = pick(seen, numbers(sums + i) * by * load(scale + from + i), (lanes){0} + -INFINITY);
        store(scores + i, score);
        most = larger(score, most);
    }
    const float top = largest(most);
    for (size_t i = 0; i < n; i += LANES) {
        const lanes apart = load(scores + i) - top;
        const whole count = rounded(power_of_two(larger(apart, (lanes){0} + LOWEST)) * SHARES);
        store_bytes(high + i, count >> 7);
        store_bytes(low + i, count & 127);
        counts += count;
    }
    int32_t total = 0;
    for (int i = 0; i < LANES; i++) total += counts[i];
    return total;
}

/* What a block of tokens sees, quantised into d->rows. */
INLINE void attend(const encoder *e, const desk *d, const layer *l, size_t first, size_t rows, size_t tokens) {
    const size_t reach = l->reach ? l->reach : tokens, size = e->size;
    const size_t from = first > reach ? (first - reach) / PANEL * PANEL : 0;
    const size_t to = least(tokens, first + rows + reach), n = up_to(to - from, STEP);
    for (size_t head = 0; head < e->heads; head++) {
        float inverse[BLOCK];
        const size_t at = head * d->t;
        e->kernel->multiply(d->query + (at + first) * d->d, d->d, d->key + (at + from) * d->d, PANEL * d->d,
                            up_to(to - from, PANEL) / PANEL, d->d, d->sums, d->t);
        for (size_t r = 0; r < rows; r++) {
            const size_t token = first + r, begin = token > reach ? token - reach : 0;
            inverse[r] = 1.0f / (float)share(d->sums + r * d->t, d->query_scale[at + token] * e->root,
                                             d->key_scale + at, from, n, begin, least(tokens, token + reach + 1),
                                             d->scores, d->high + r * d->t, d->low + r * d->t);
        }
        const int8_t *panel = d->value + head * size * d->t + from * PANEL;
        e->kernel->multiply(d->high, d->t, panel, PANEL * d->t, size / PANEL, n, d->sums, GROUP);
        e->kernel->multiply(d->low, d->t, panel, PANEL * d->t, size / PANEL, n, d->more, GROUP);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < size; i += LANES) {
                const lanes total = numbers(d->sums + r * GROUP + i) * 128.0f + numbers(d->more + r * GROUP + i);
                store(d->seen + r * e->width + head * size + i,
                      total * inverse[r] * load(d->value_scale + head * size + i));
            }
    }
    take(d, d->seen, e->width, e->width, rows);
}

INLINE void gate(const encoder *e, const desk *d, const layer *l, float *x, size_t rows) {
    const float *scale = l->gated.scale;
    take_normalised(e, d, x, l->next_norm, rows);
    for (size_t from = 0; from < e->inner; from += GROUP) {
        const size_t n = least(GROUP, e->inner - from);
        group(e, d, &l->gated, from, n, d->sums);
        group(e, d, &l->gated, e->inner + from, n, d->more);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < n; i += LANES) {
                const lanes inner = scaled(d, d->sums, r, i, scale + from);
                const lanes opens = scaled(d, d->more, r, i, scale + e->inner + from);
                store(d->row + r * d->deep + from + i, gelu(inner) * opens);
            }
    }
    take(d, d->row, d->deep, e->inner, rows);
}

INLINE void answer(const encoder *e, const desk *d, size_t tokens, float *logits) {
    for (size_t first = 0; first < tokens; first += BLOCK) {
        const size_t rows = least(BLOCK, tokens - first);
        take_normalised(e, d, d->x + first * e->width, e->last_norm, rows);
        for (size_t from = 0; from < e->answer.outputs; from += GROUP) {
            const size_t n = least(GROUP, e->answer.outputs - from);
            group(e, d, &e->answer, from, up_to(n, PANEL), d->sums);
            for (size_t r = 0; r < rows; r++)
                for (size_t i = from; i < from + n; i++)
                    logits[(first + r) * e->answer.outputs + i] =
                        (float)d->sums[r * GROUP + i - from] * d->scale[r] * e->answer.scale[i] + e->bias[i];
        }
    }
}

void READER(const encoder *e, const desk *d, const int64_t *ids, size_t tokens, float *logits) {
    for (size_t i = 0; i < tokens; i++) {
        const int8_t *entry = e->embedding + (size_t)ids[i] * e->width;
        for (size_t k = 0; k < e->width; k++) d->row[k] = (float)entry[k] * e->embedding_scale[ids[i]];
        normalise(e, d->row, e->first_norm, d->x + i * e->width);
    }
    for (const layer *l = e->each; l < e->each + e->layers; l++) {
        memset(d->value_most, 0, e->width * sizeof(float));
        for (size_t first = 0; first < tokens; first += BLOCK) project(e, d, l, first, least(BLOCK, tokens - first));
        pack_values(e, d, tokens);
        for (size_t first = 0; first < tokens; first += BLOCK) {
            const size_t rows = least(BLOCK, tokens - first);
            float *x = d->x + first * e->width;
            attend(e, d, l, first, rows, tokens);
            add(e, d, &l->attended, x, rows);
            gate(e, d, l, x, rows);
            add(e, d, &l->projected, x, rows);
        }
    }
    answer(e, d, tokens, logits);
}
