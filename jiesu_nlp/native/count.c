/* From raw texts to counts of a model's vocabulary; what is counted is defined by `features.count_features`,
 * and the steps here are those of that module, in its order. */
#include "native.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEAD 60 /* text.lead */
#define AHEAD 6 /* rows of weights are asked for so many entries before they are needed */

enum { WORDS, CHARS, FIRST, LAST, BLOCKS };

typedef struct {
    vocabulary *block[BLOCKS], *districts;
    int32_t begin[BLOCKS + 1];        /* the numbers of each block's entries, and the end of the last */
    double share[BLOCKS];             /* the length that each block of a text gets */
    uint32_t shortest, longest, lead; /* lengths of n-grams; how many times the lead counts */
    uint32_t edge;                    /* length of an end */
} counter;

/* What one call works with. */
typedef struct {
    code *folded, *text, *dense; /* dense: without white space */
    uint32_t *ends, *found, *spare;
    size_t n_found;
    room cutting;
} desk;

API void counter_free(counter *c) {
    if (!c) return;
    for (int b = 0; b < BLOCKS; b++) vocabulary_free(c->block[b]);
    vocabulary_free(c->districts);
    free(c);
}

/* The strings of the blocks, then of the districts, stand one behind the other in `codes`; entries are numbered
 * in that order. sizes: how many each has. shape: shortest, longest, lead, edge. */
API counter *counter_new(const code *codes, const uint32_t *lengths, const uint32_t *sizes, const double *shares,
                         const uint32_t *shape) {
    counter *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    *c = (counter){.shortest = shape[0], .longest = shape[1], .lead = shape[2], .edge = shape[3]};
    int good = 1;
    for (int b = 0; b <= BLOCKS; b++) {
        vocabulary *v = vocabulary_new(codes, lengths, sizes[b]);
        good = good && v;
        for (uint32_t i = 0; i < sizes[b]; i++) codes += *lengths++;
        if (b == BLOCKS) c->districts = v;
        else c->block[b] = v, c->share[b] = shares[b], c->begin[b + 1] = c->begin[b] + (int32_t)sizes[b];
    }
    if (good) return c;
    counter_free(c);
    return NULL;
}

static code fold(code c) {
    if (c >= 0xff01 && c <= 0xff5e) c -= 0xfee0;
    else if (c == 0x3000) return ' ';
    else if (c == '\r') return '\n';
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* text.normalise, in place. */
API void text_fold(code *text, size_t n) {
    for (size_t i = 0; i < n; i++) text[i] = fold(text[i]);
}

/* str.isspace, and \s of a regular expression */
static int is_space(code c) {
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static int ends_place(code c) { return c == 0x5e02 || c == 0x533a || c == 0x53bf; } /* 市 区 县 */

/* The length of a place code or district in front of 市, 区 or 县, or 0. */
static size_t place_code(const counter *c, const code *s, size_t n) {
    size_t i = 1;
    if (kind(s[0]) == LATIN) {
        while (i < n && kind(s[i]) == DIGIT) i++;
        return i < n && ends_place(s[i]) ? i : 0;
    }
    uint32_t node = 0;
    for (i = 0; i < n && (node = trie_child(c->districts->strings, node, s[i])); i++)
        if (c->districts->entry[node] >= 0 && i + 1 < n && ends_place(s[i + 1])) return i + 1;
    return 0;
}

/* features.prepare; returns the length. */
static size_t prepare(const counter *c, const code *raw, size_t n, desk *d) {
    size_t kept = 0, out = 0;
    for (size_t i = 0; i < n; i++) d->text[i] = fold(raw[i]);
    for (size_t i = 0, skip; i < n; i += skip ? skip : 1)
        if (!(skip = place_code(c, d->text + i, n - i))) d->folded[kept++] = d->text[i];
    for (size_t i = 0; i < kept; i++) {
        code now = d->folded[i];
        if (kind(now) == DIGIT) {
            if (i && kind(d->folded[i - 1]) == DIGIT) continue;
            now = '0';
        }
        if (out > 1 && d->text[out - 1] == now && d->text[out - 2] == now) continue;
        d->text[out++] = now;
    }
    return out;
}

enum { TEXT = 1, IN_LEAD = 2 }; /* what an occurrence counts for */

/* entry: of a block that begins at `begin`, or -1 for none. */
static void note(desk *d, int32_t begin, int32_t entry, int where) {
    if (entry < 0) return;
    entry += begin;
    if (where & TEXT) d->found[d->n_found++] = 2 * (uint32_t)entry;
    if (where & IN_LEAD) d->found[d->n_found++] = 2 * (uint32_t)entry + 1;
}

/* Notes the words of a run of one kind. */
static void note_words(const counter *c, const segmenter *s, const code *run, size_t n, int where, desk *d) {
    static const code number = '0';
    const vocabulary *known = c->block[WORDS];
    if (kind(run[0]) == DIGIT) note(d, 0, look_up(known, &number, 1), where);
    if (kind(run[0]) == LATIN) note(d, 0, look_up(known, run, n), where);
    if (kind(run[0]) != HAN) return;
    size_t words = cut(s, run, n, d->ends, &d->cutting);
    for (size_t w = 0, from = 0; w < words; from = d->ends[w++])
        note(d, 0, look_up(known, run + from, d->ends[w] - from), where);
}

static void count_words(const counter *c, const segmenter *s, size_t n, size_t lead, desk *d) {
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && kind(d->text[j]) == kind(d->text[i]); j++) {
        }
        note_words(c, s, d->text + i, j - i, j <= lead ? TEXT | IN_LEAD : TEXT, d);
        if (i < lead && lead < j) note_words(c, s, d->text + i, lead - i, IN_LEAD, d); /* cut through */
    }
}

/* Notes the n-grams of n characters, of which `lead` are the lead. */
static void note_grams(const counter *c, int block, const code *s, size_t n, size_t lead, desk *d) {
    const vocabulary *known = c->block[block];
    for (size_t i = 0; i < n; i++) {
        uint32_t node = 0;
        for (size_t k = 1; k <= c->longest && i + k <= n; k++) {
            if (!(node = trie_child(known->strings, node, s[i + k - 1]))) break;
            if (k >= c->shortest) note(d, c->begin[block], known->entry[node], i + k <= lead ? TEXT | IN_LEAD : TEXT);
        }
    }
}

static void count_grams(const counter *c, size_t n, size_t lead, desk *d) {
    size_t m = 0, in_lead = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_space(d->text[i])) d->dense[m++] = d->text[i];
        if (i < lead) in_lead = m;
    }
    size_t edge = m < c->edge ? m : c->edge;
    note_grams(c, CHARS, d->dense, m, in_lead, d);
    note_grams(c, FIRST, d->dense, edge, 0, d);
    note_grams(c, LAST, d->dense + m - edge, edge, 0, d);
}

/* Where the lead of a prepared text ends (text.lead); it begins at the first character that is no space. */
static size_t lead_end(const code *text, size_t n) {
    size_t i = 0, first;
    while (i < n && is_space(text[i])) i++;
    for (first = i; i < n && i < first + LEAD; i++) /* 0x3002: 。 */
        if (text[i] == '\n' || text[i] == 0x3002 || text[i] == '!' || text[i] == '?' || text[i] == ';') break;
    return i;
}

/* Sorts what was found, eleven bits at a time. */
static void sort(desk *d) {
    uint32_t most = 0;
    for (size_t i = 0; i < d->n_found; i++) most |= d->found[i];
    for (int shift = 0; shift < 32 && most >> shift; shift += 11) {
        size_t place[2049] = {0};
        for (size_t i = 0; i < d->n_found; i++) place[(d->found[i] >> shift & 2047) + 1]++;
        for (int b = 0; b < 2047; b++) place[b + 1] += place[b];
        for (size_t i = 0; i < d->n_found; i++) d->spare[place[d->found[i] >> shift & 2047]++] = d->found[i];
        uint32_t *swap = d->found;
        d->found = d->spare;
        d->spare = swap;
    }
}

/* How many occurrences a text of n characters can have. */
static size_t most(const counter *c, size_t n) {
    size_t edges = 2 * (n < c->edge ? n : c->edge);
    return (n + LEAD) + (n + LEAD + edges) * (c->longest < c->shortest ? 0 : (size_t)c->longest - c->shortest + 1);
}

/* Room that `counter_score` needs in `entries` and `values` for texts of these lengths. */
API size_t counter_room(const counter *c, const uint32_t *lengths, size_t texts) {
    size_t all = 0;
    for (size_t i = 0; i < texts; i++) all += most(c, lengths[i]);
    return all;
}

/* Counts the vocabulary in texts that stand one behind the other in `codes`. Row i of the result is
 * entries[row[i]..row[i + 1]], ascending, and their counts. Returns 0 when out of memory. */
static int count_all(const counter *c, const segmenter *s, const code *codes, const uint32_t *lengths, size_t texts,
                      int64_t *row, int32_t *entries, float *counts) {
    size_t longest = 1, at = 0;
    for (size_t i = 0; i < texts; i++) longest = lengths[i] > longest ? lengths[i] : longest;
    desk d = {0};
    code *text = malloc(3 * longest * sizeof *text);
    uint32_t *found = malloc((2 * most(c, longest) + longest) * sizeof *found);
    int good = text && found && room_fit(&d.cutting, longest);
    row[0] = 0;
    for (size_t i = 0; good && i < texts; codes += lengths[i++]) {
        d.text = text, d.folded = text + longest, d.dense = text + 2 * longest;
        d.ends = found, d.found = found + longest, d.spare = d.found + most(c, longest), d.n_found = 0;
        size_t n = prepare(c, codes, lengths[i], &d), lead = c->lead > 1 ? lead_end(d.text, n) : 0;
        count_words(c, s, n, lead, &d);
        count_grams(c, n, lead, &d);
        sort(&d);
        for (size_t k = 0; k < d.n_found; k++) {
            int32_t entry = (int32_t)(d.found[k] / 2);
            if (!k || d.found[k - 1] / 2 != d.found[k] / 2) entries[at] = entry, counts[at++] = 0;
            counts[at - 1] += (float)(d.found[k] & 1 ? c->lead - 1 : 1); /* exact below 2^24 */
        }
        row[i + 1] = (int64_t)at;
    }
    room_free(&d.cutting);
    free(text);
    free(found);
    return good;
}

static double damped(double count, const double *logs, size_t n_logs) {
    return 1 + (count < n_logs ? logs[(size_t)count] : log(count));
}

/* What `tfidf.py` makes of the counts, in place: 1 + log(count), each block of a row at its share's length under
 * idf. logs: of 0..n_logs - 1, so that a logarithm is what the caller's library says it is. */
static void weigh(const counter *c, const float *idf, const double *logs, size_t n_logs, const int64_t *row,
                  size_t texts, const int32_t *entries, float *values) {
    for (size_t i = 0; i < texts; i++)
        for (int64_t k = row[i], end; k < row[i + 1]; k = end) {
            double sum = 0;
            int block = 0;
            while (entries[k] >= c->begin[block + 1]) block++;
            for (end = k; end < row[i + 1] && entries[end] < c->begin[block + 1]; end++) {
                double value = damped(values[end], logs, n_logs) * idf[entries[end]];
                sum += value * value;
            }
            double length = sqrt(sum);
            for (int64_t j = k; j < end; j++)
                values[j] = (float)(damped(values[j], logs, n_logs) / length * c->share[block]);
        }
}

/* Asks for floats that stand far from all that was read. */
static void fetch(const float *row, size_t columns) {
#ifdef __GNUC__
    for (size_t j = 0; j < columns; j += 16) __builtin_prefetch(row + j);
#endif
}

/* Values of the vocabulary in texts, and their product with weights (features x columns) plus a bias: the
 * sums go in the order of the entries, so that a text's scores do not depend on its batch. */
API int counter_score(const counter *c, const segmenter *s, const code *codes, const uint32_t *lengths, size_t texts,
                      const float *idf, const double *logs, size_t n_logs, const float *weights, const float *bias,
                      size_t columns, int64_t *row, int32_t *entries, float *values, float *scores) {
    if (!count_all(c, s, codes, lengths, texts, row, entries, values)) return 0;
    weigh(c, idf, logs, n_logs, row, texts, entries, values);
    for (size_t i = 0; i < texts; i++, scores += columns) {
        memset(scores, 0, columns * sizeof *scores);
        for (int64_t k = row[i]; k < row[i + 1]; k++) {
            const float *of_entry = weights + (size_t)entries[k] * columns;
            if (k + AHEAD < row[i + 1]) fetch(weights + (size_t)entries[k + AHEAD] * columns, columns);
            for (size_t j = 0; j < columns; j++) scores[j] += values[k] * of_entry[j];
        }
        for (size_t j = 0; j < columns; j++) scores[j] += bias[j];
    }
    return 1;
}

/* The entries below `words` that weigh most, signed, in each text's score of one column: `top` a text, heaviest
 * first, the earlier of two alike first; -1 where a text has fewer. */
API void counter_strongest(const int64_t *row, const int32_t *entries, const float *values, size_t texts,
                           const float *weights, size_t columns, const int32_t *column, int32_t words, size_t top,
                           int32_t *strongest, float *weight) {
    for (size_t i = 0; i < texts; i++, strongest += top, weight += top) {
        size_t found = 0;
        for (int64_t k = row[i]; k < row[i + 1] && entries[k] < words; k++) {
            int64_t ahead = k + AHEAD;
            if (ahead < row[i + 1] && entries[ahead] < words)
                fetch(weights + (size_t)entries[ahead] * columns + (size_t)column[i], 1);
            float now = values[k] * weights[(size_t)entries[k] * columns + (size_t)column[i]];
            size_t at = found;
            while (at && fabsf(weight[at - 1]) < fabsf(now)) at--;
            if (at == top) continue;
            found += found < top;
            memmove(strongest + at + 1, strongest + at, (found - at - 1) * sizeof *strongest);
            memmove(weight + at + 1, weight + at, (found - at - 1) * sizeof *weight);
            strongest[at] = entries[k];
            weight[at] = now;
        }
        for (; found < top; found++) strongest[found] = -1;
    }
}
