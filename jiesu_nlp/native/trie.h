/* Strings of code points as a tree: each prefix is a node. 0 is the root and, as a child, "none".
 *
 * A child is found by hashing its parent and its character together: one look at memory a step. A slot holds
 * parent, character and child whole, 21 bits each, so that no two are confused and a million nodes take
 * 16 MB. First characters, which every walk begins with, are looked up in a table. */
#ifndef JIESU_TRIE_H
#define JIESU_TRIE_H

#include <stdint.h>
#include <stdlib.h>

typedef uint32_t code; /* a Unicode code point */

#define TRIE_BITS 21 /* a code point has as many */
#define TRIE_FIRST 0x10000

typedef struct {
    uint64_t *slots; /* 0: free */
    uint64_t mask;
    uint32_t size; /* nodes, the root among them */
    uint32_t first[TRIE_FIRST];
} trie;

static inline uint64_t trie_key(uint32_t node, code c) { return (uint64_t)node << TRIE_BITS | c; }

/* The slot of a key, or the free one where it would be. */
static inline uint64_t *trie_slot(uint64_t *slots, uint64_t mask, uint64_t key) {
    uint64_t mixed = key * 0x9e3779b97f4a7c15u, i = (mixed ^ mixed >> 32) & mask;
    while (slots[i] && slots[i] >> TRIE_BITS != key) i = (i + 1) & mask;
    return slots + i;
}

static inline uint32_t trie_child(const trie *t, uint32_t node, code c) {
    if (!node && c < TRIE_FIRST) return t->first[c];
    return *trie_slot(t->slots, t->mask, trie_key(node, c)) & ((1u << TRIE_BITS) - 1);
}

trie *trie_new(size_t nodes); /* with room for so many before it grows */
void trie_free(trie *);
uint32_t trie_put(trie *, const code *, size_t n); /* the string's node; 0 when there is no room */

#endif
