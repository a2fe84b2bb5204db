#include "trie.h"

trie *trie_new(size_t nodes) {
    trie *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->mask = 1023;
    while (t->mask < 2 * nodes) t->mask = 2 * t->mask + 1;
    t->size = 1;
    t->slots = calloc(t->mask + 1, sizeof *t->slots);
    if (t->slots) return t;
    free(t);
    return NULL;
}

void trie_free(trie *t) {
    if (t) free(t->slots);
    free(t);
}

static int grow(trie *t) {
    uint64_t mask = 2 * t->mask + 1, *slots = calloc(mask + 1, sizeof *slots);
    if (!slots) return 0;
    for (uint64_t i = 0; i <= t->mask; i++)
        if (t->slots[i]) *trie_slot(slots, mask, t->slots[i] >> TRIE_BITS) = t->slots[i];
    free(t->slots);
    t->slots = slots;
    t->mask = mask;
    return 1;
}

uint32_t trie_put(trie *t, const code *s, size_t n) {
    uint32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t next = trie_child(t, node, s[i]);
        if (!next) {
            if (t->size >> TRIE_BITS || (2 * (uint64_t)t->size > t->mask && !grow(t))) return 0;
            next = t->size++;
            *trie_slot(t->slots, t->mask, trie_key(node, s[i])) = trie_key(node, s[i]) << TRIE_BITS | next;
            if (!node && s[i] < TRIE_FIRST) t->first[s[i]] = next;
        }
        node = next;
    }
    return node;
}
