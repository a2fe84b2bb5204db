/* jieba's segmentation (0.42.1, `cut` with its tagger on), step for step and in the same order of floating
 * point operations, so that ties break alike: the best path through the words of the dictionary, and, where
 * single characters are left in a row, a hidden Markov model with states B, M, E and S. */
#include "native.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIRST 0x4e00 /* the characters that jieba takes for Chinese; others stand alone */
#define LAST 0x9fd5
#define TAGGED (LAST - FIRST + 1)
#define NEVER (-3.14e100)

enum { B, E, M, S }; /* in the order of the letters: of two equal paths, the later letter wins */
static const int before[4][2] = {[B] = {E, S}, [E] = {B, M}, [M] = {B, M}, [S] = {E, S}};

struct segmenter {
    trie *words;
    double *value; /* by node: a word's count until `segmenter_ready`, then its log probability */
    uint32_t room;
    double total, rare; /* of all counts; log probability of a character that is no word */
    double start[4], step[4][4], emit[TAGGED][4];
};

API void segmenter_free(segmenter *s) {
    if (!s) return;
    trie_free(s->words);
    free(s->value);
    free(s);
}

/* start: 4, step: 4 x 4 (from, to), emit: TAGGED x 4; all log probabilities, states in the order B E M S.
 * words: how many are to come, roughly. */
API segmenter *segmenter_new(const double *start, const double *step, const double *emit, size_t words) {
    segmenter *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->words = trie_new(words);
    if (!s->words) {
        segmenter_free(s);
        return NULL;
    }
    memcpy(s->start, start, sizeof s->start);
    memcpy(s->step, step, sizeof s->step);
    memcpy(s->emit, emit, sizeof s->emit);
    return s;
}

/* Gives a word a count, and takes an earlier one out of the total where `replace` says so. */
API int segmenter_add(segmenter *s, const code *word, size_t n, double count, int replace) {
    uint32_t node = trie_put(s->words, word, n), size = s->words->size;
    if (!node) return 0;
    if (size > s->room) {
        double *more = realloc(s->value, 2 * size * sizeof *more);
        if (!more) return 0;
        memset(more + s->room, 0, (2 * size - s->room) * sizeof *more);
        s->value = more;
        s->room = 2 * size;
    }
    if (replace) s->total -= s->value[node];
    s->value[node] = count;
    s->total += count;
    return 1;
}

/* Reads a dictionary: lines of "word count tag" in UTF-8. Returns the number of lines, or -1 where there is no
 * memory or a word has more than 64 characters. */
API long segmenter_read(segmenter *s, const uint8_t *text, size_t size) {
    code word[64];
    long read = 0;
    for (size_t i = 0; i < size; read++) {
        size_t n = 0;
        double count = 0;
        while (i < size && text[i] != ' ' && text[i] != '\n') {
            int c = text[i++], more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
            code value = more ? (code)(c & (0x3f >> more)) : (code)c;
            for (; more && i < size; more--) value = value << 6 | (text[i++] & 0x3f);
            if (n == 64) return -1;
            word[n++] = value;
        }
        for (i += i < size && text[i] == ' '; i < size && text[i] >= '0' && text[i] <= '9'; i++)
            count = 10 * count + (text[i] - '0');
        while (i < size && text[i++] != '\n') {
        }
        if (n && !segmenter_add(s, word, n, count, 0)) return -1;
    }
    return read;
}

/* Turns counts into log probabilities; nothing may be added afterwards. */
API void segmenter_ready(segmenter *s) {
    double all = log(s->total);
    for (uint32_t i = 0; i < s->room; i++) s->value[i] = s->value[i] > 0 ? log(s->value[i]) - all : 1;
    s->rare = log(1) - all; /* a log probability is never above 0: 1 stands for "no word" */
}

int room_fit(room *r, size_t n) {
    if (n < r->size) return 1;
    room_free(r);
    r->size = 2 * n + 64;
    r->score = malloc(r->size * sizeof *r->score);
    r->next = malloc(r->size * sizeof *r->next);
    r->back = malloc(r->size * 4);
    if (r->score && r->next && r->back) return 1;
    room_free(r);
    return 0;
}

void room_free(room *r) {
    free(r->score);
    free(r->next);
    free(r->back);
    *r = (room){0};
}

/* Tags characters that are all Chinese to jieba and gives the ends of the words. */
static size_t tag(const segmenter *s, const code *run, size_t n, uint32_t from, uint32_t *ends, room *r) {
    double path[4], longer[4];
    for (int y = 0; y < 4; y++) path[y] = s->start[y] + s->emit[run[0] - FIRST][y];
    for (size_t t = 1; t < n; t++) {
        for (int y = 0; y < 4; y++) {
            const double emitted = s->emit[run[t] - FIRST][y];
            double a = path[before[y][0]] + s->step[before[y][0]][y] + emitted;
            double b = path[before[y][1]] + s->step[before[y][1]][y] + emitted;
            int second = b >= a;
            longer[y] = second ? b : a;
            r->back[4 * t + y] = (uint8_t)before[y][second];
        }
        memcpy(path, longer, sizeof path);
    }
    size_t found = 0;
    int y = path[S] >= path[E] ? S : E;
    for (size_t t = n; t-- > 0; y = r->back[4 * t + y])
        if (y == E || y == S) ends[n - ++found] = from + (uint32_t)t + 1;
    memmove(ends, ends + n - found, found * sizeof *ends);
    return found;
}

/* The words of characters from..to of a run that the dictionary left single. */
static size_t leftover(const segmenter *s, const code *run, uint32_t from, uint32_t to, uint32_t *ends, room *r) {
    size_t found = 0;
    uint32_t node = 0, i = from;
    if (to - from > 1) { /* a word of the dictionary after all, not on the best path, stays single */
        while (i < to && (node = trie_child(s->words, node, run[i]))) i++;
        if (i < to || s->value[node] > 0) return tag(s, run + from, to - from, from, ends, r);
    }
    while (from < to) ends[found++] = ++from;
    return found;
}

/* Ends of the words of a run of Chinese characters, at most n of them; `r` must fit the run. */
static size_t cut_known(const segmenter *s, const code *run, size_t n, uint32_t *ends, room *r) {
    r->score[n] = 0;
    for (size_t at = n; at-- > 0;) {
        uint32_t node = 0;
        double best = -INFINITY;
        for (size_t end = at; end < n && (node = trie_child(s->words, node, run[end])); end++) {
            if (s->value[node] > 0) continue;
            double score = s->value[node] + r->score[end + 1];
            if (score >= best) best = score, r->next[at] = (uint32_t)end + 1;
        }
        if (best == -INFINITY) best = s->rare + r->score[at + 1], r->next[at] = (uint32_t)at + 1;
        r->score[at] = best;
    }
    size_t found = 0;
    uint32_t single = 0, at = 0;
    while (at < n) {
        uint32_t end = r->next[at];
        if (end - at > 1) {
            if (single < at) found += leftover(s, run, single, at, ends + found, r);
            ends[found++] = end;
            single = end;
        }
        at = end;
    }
    if (single < at) found += leftover(s, run, single, at, ends + found, r);
    return found;
}

size_t cut(const segmenter *s, const code *run, size_t n, uint32_t *ends, room *r) {
    size_t found = 0;
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && run[j] >= FIRST && run[j] <= LAST; j++) {
        }
        size_t more = i < j ? cut_known(s, run + i, j - i, ends + found, r) : 0;
        for (size_t k = 0; k < more; k++) ends[found + k] += (uint32_t)i;
        found += more;
        for (; j < n && (run[j] < FIRST || run[j] > LAST); j++) ends[found++] = (uint32_t)j + 1;
    }
    return found;
}

/* Starts and ends of the words of a folded text, at most n of them. Returns their number, or -1. */
API long segmenter_words(const segmenter *s, const code *text, size_t n, uint32_t *starts, uint32_t *ends) {
    room r = {0};
    size_t found = 0;
    if (!room_fit(&r, n + 1)) return -1;
    for (size_t i = 0, j; i < n; i = j) {
        int k = kind(text[i]);
        for (j = i + 1; j < n && kind(text[j]) == k; j++) {
        }
        if (k == OTHER) continue;
        size_t more = 1;
        ends[found] = (uint32_t)(j - i);
        if (k == HAN) more = cut(s, text + i, j - i, ends + found, &r);
        for (size_t w = found; w < found + more; w++) {
            starts[w] = w > found ? ends[w - 1] : (uint32_t)i;
            ends[w] += (uint32_t)i;
        }
        found += more;
    }
    room_free(&r);
    return (long)found;
}
