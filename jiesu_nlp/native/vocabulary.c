/* Numbered strings, looked up in texts. */
#include "native.h"

#include <string.h>

API int native_version(void) { return VERSION; }

API void vocabulary_free(vocabulary *v) {
    if (!v) return;
    trie_free(v->strings);
    free(v->entry);
    free(v);
}

static int put(vocabulary *v, const code *s, size_t n, int32_t number) {
    uint32_t node = trie_put(v->strings, s, n), size = v->strings->size;
    if (!node) return n == 0; /* an empty string stands nowhere */
    if (size > v->room) {
        int32_t *more = realloc(v->entry, 2 * size * sizeof *more);
        if (!more) return 0;
        memset(more + v->room, -1, (2 * size - v->room) * sizeof *more);
        v->entry = more;
        v->room = 2 * size;
    }
    v->entry[node] = number;
    return 1;
}

/* Strings that stand one behind the other in `codes`, numbered from 0. */
API vocabulary *vocabulary_new(const code *codes, const uint32_t *lengths, size_t strings) {
    vocabulary *v = calloc(1, sizeof *v);
    if (!v) return NULL;
    *v = (vocabulary){.strings = trie_new(strings)};
    int good = v->strings != NULL;
    for (size_t i = 0; good && i < strings; codes += lengths[i++]) good = put(v, codes, lengths[i], (int32_t)i);
    if (good) return v;
    vocabulary_free(v);
    return NULL;
}

int32_t look_up(const vocabulary *v, const code *s, size_t n) {
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++)
        if (!(node = trie_child(v->strings, node, s[i]))) return -1;
    return node ? v->entry[node] : -1;
}

/* Where patterns may begin in a text (see prefixes.py), by falling place. Each opening belongs to a pattern; it
 * has strings that it begins with and, unless its `within` is 0, others of which one must begin there or at most so
 * far behind. String i is among the first ones of the openings first[first_at[i]..first_at[i + 1]], and likewise
 * for `later`. Returns how many places there are, of which no more than `room` are written, or -1. */
API long openings_find(const vocabulary *v, const uint32_t *first_at, const uint32_t *first, const uint32_t *later_at,
                       const uint32_t *later, const uint32_t *within, const uint32_t *pattern, size_t openings,
                       const code *text, size_t n, uint32_t *at, uint32_t *number, size_t room) {
    /* By opening, the next place of what must follow; by pattern, the last one written; plus one. */
    size_t found = 0, *seen = calloc(2 * openings + 1, sizeof *seen);
    if (!seen) return -1;
    size_t *written = seen + openings;
    for (size_t i = n; i-- > 0;) {
        uint32_t node = trie_child(v->strings, 0, text[i]), start = node;
        for (size_t k = i; node; node = ++k < n ? trie_child(v->strings, node, text[k]) : 0) {
            int32_t string = v->entry[node];
            for (uint32_t j = string < 0 ? 0 : later_at[string]; string >= 0 && j < later_at[string + 1]; j++)
                seen[later[j]] = i + 1;
        }
        node = start;
        for (size_t k = i; node; node = ++k < n ? trie_child(v->strings, node, text[k]) : 0) {
            int32_t string = v->entry[node];
            for (uint32_t j = string < 0 ? 0 : first_at[string]; string >= 0 && j < first_at[string + 1]; j++) {
                uint32_t o = first[j], p = pattern[o];
                if (written[p] == i + 1 || (within[o] && (!seen[o] || seen[o] - 1 - i > within[o]))) continue;
                written[p] = i + 1;
                if (found < room) at[found] = (uint32_t)i, number[found] = p;
                found++;
            }
        }
    }
    free(seen);
    return (long)found;
}
