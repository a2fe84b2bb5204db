/* Makes encoders and runs them. */
#include "encoder.h"

#include <stdlib.h>
#include <string.h>

API void encoder_free(encoder *e) {
    if (e) free(e->packed);
    free(e);
}

static size_t packed_size(size_t outputs, size_t inputs) { return up_to(outputs, PANEL) * up_to(inputs, STEP); }

static linear pack(int8_t **to, const int8_t *weight, const float *scale, size_t outputs, size_t inputs) {
    const linear made = {*to, scale, inputs, outputs};
    for (size_t o = 0; o < outputs; o++)
        for (size_t i = 0; i < inputs; i++) (*to)[packed_at(o, i, up_to(inputs, STEP))] = weight[o * inputs + i];
    *to += packed_size(outputs, inputs);
    return made;
}

/* The fastest kernel of this machine. */
API int encoder_level(void) {
    int level = 0;
    while (kernel_of(level + 1)) level++;
    return level;
}

static reader *reader_of(int level) {
    (void)level;
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
    return (reader *[]){read_plain, read_avx2, read_avx512, read_avx512}[level];
#else
    return read_plain;
#endif
}

/* sizes: layers, width, heads, inner, entries, columns, positions. constants: epsilon, root. arrays: of `_ARRAYS` in
 * native/encoder.py, in that order; all but those of products are read in place. NULL where there is no memory, or for
 * sizes that these steps are not made for. */
API encoder *encoder_new(const size_t *sizes, const float *constants, const uint32_t *reach, const void *const *arrays,
                         int level) {
    const size_t layers = sizes[0], width = sizes[1], heads = sizes[2], inner = sizes[3], columns = sizes[5];
    const size_t size = heads ? width / heads : 0;
    if (!size || size * heads != width || size % (2 * SIDE) || size > GROUP || inner % SIDE || !kernel_of(level))
        return NULL;
    const size_t each = packed_size(3 * width, width) + packed_size(width, width) + packed_size(2 * inner, width) +
                        packed_size(width, inner);
    encoder *e = calloc(1, sizeof *e + layers * sizeof *e->each);
    if (!e) return NULL;
    *e = (encoder){.layers = layers, .width = width, .heads = heads, .inner = inner, .size = size};
    e->entries = sizes[4], e->positions = sizes[6];
    e->epsilon = constants[0], e->root = constants[1], e->kernel = kernel_of(level), e->read = reader_of(level);
    e->embedding = arrays[0], e->embedding_scale = arrays[1], e->first_norm = arrays[2], e->bias = arrays[15];
    int8_t *to = e->packed = calloc(1, layers * each + packed_size(columns, width));
    if (!to) return encoder_free(e), NULL;
    const float *norm = e->first_norm + width;
    for (size_t i = 0; i < layers; i++, norm += 2 * width) {
        layer *l = e->each + i;
        const size_t turns = i * e->positions * size / 2;
#define PACK(at, outputs, inputs)                                                                                      \
    pack(&to, (const int8_t *)arrays[at] + i * (outputs) * (inputs), (const float *)arrays[at + 1] + i * (outputs),    \
         outputs, inputs)
        l->query_key_value = PACK(5, 3 * width, width);
        l->attended = PACK(7, width, width);
        l->gated = PACK(9, 2 * inner, width);
        l->projected = PACK(11, width, inner);
#undef PACK
        l->norm = i ? norm : NULL;
        l->next_norm = norm + width;
        l->cosine = (const float *)arrays[3] + turns;
        l->sine = (const float *)arrays[4] + turns;
        l->reach = reach[i];
    }
    e->last_norm = norm;
    e->answer = pack(&to, arrays[13], arrays[14], columns, width);
    return e;
}

/* Logits [texts][length][columns] of token ids [texts][length]; 0 when out of memory, -1 for an id or a length that the
 * encoder does not have. */
API int encoder_run(const encoder *e, const int64_t *ids, size_t texts, size_t length, float *logits) {
    if (length > e->positions) return -1;
    for (size_t i = 0; i < texts * length; i++)
        if ((uint64_t)ids[i] >= e->entries) return -1;
    desk d = {.t = up_to(length, STEP) + STEP, .d = up_to(e->size, STEP)};
    d.deep = up_to(e->width > e->inner ? e->width : e->inner, STEP);
    const struct {
        void *at;
        size_t bytes;
    } parts[] = {
        {&d.x, d.t * e->width * sizeof(float)},
        {&d.query, e->heads * d.t * d.d},
        {&d.key, e->heads * d.t * d.d},
        {&d.value, e->width * d.t},
        {&d.query_scale, e->heads * d.t * sizeof(float)},
        {&d.key_scale, e->heads * d.t * sizeof(float)},
        {&d.values, d.t * e->width * sizeof(float)},
        {&d.value_most, e->width * sizeof(float)},
        {&d.value_scale, e->width * sizeof(float)},
        {&d.row, BLOCK * d.deep * sizeof(float)},
        {&d.seen, BLOCK * e->width * sizeof(float)},
        {&d.scores, d.t * sizeof(float)},
        {&d.rows, BLOCK * d.deep},
        {&d.high, BLOCK * d.t},
        {&d.low, BLOCK * d.t},
        {&d.scale, BLOCK * sizeof(float)},
        {&d.sums, BLOCK * d.t * sizeof(int32_t)},
        {&d.more, BLOCK * GROUP * sizeof(int32_t)},
    };
    const size_t n = sizeof parts / sizeof *parts;
    size_t total = STEP;
    for (size_t i = 0; i < n; i++) total += up_to(parts[i].bytes, STEP);
    char *memory = calloc(1, total);
    if (!memory) return 0;
    char *at = memory + (STEP - (uintptr_t)memory % STEP);
    for (size_t i = 0; i < n; at += up_to(parts[i++].bytes, STEP)) memcpy(parts[i].at, &at, sizeof at);
    if (e->kernel->begin) e->kernel->begin();
    for (size_t i = 0; i < texts; i++)
        e->read(e, &d, ids + i * length, length, logits + i * length * e->answer.outputs);
    if (e->kernel->end) e->kernel->end();
    free(memory);
    return 1;
}
