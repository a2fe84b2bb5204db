/* Reading Chinese texts fast: numbered strings looked up in them, jieba's segmentation, a model's features.
 *
 * Plain C99 (an encoder's steps: with vectors, as gcc and clang have them) over arrays that the caller owns, called
 * through ctypes: it knows nothing of Python, runs without its lock, and keeps no state between calls but what the
 * *_new functions return. Once that is filled, calls only read it, so that threads may share it. What runs out of
 * memory returns NULL, 0 or -1, as stated.
 */
#ifndef JIESU_NATIVE_H
#define JIESU_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#include "trie.h"

#if defined(_WIN32)
#define API __declspec(dllexport)
#else
#define API __attribute__((visibility("default")))
#endif

/* Raised whenever a function that is called from outside changes, together with VERSION in binding.py: a library
 * that was compiled from other sources is then left alone. */
#define VERSION 4

/* vocabulary.c */
typedef struct {
    trie *strings;
    int32_t *entry; /* by node: the number of a string, -1 for a mere prefix */
    uint32_t room;
} vocabulary;
vocabulary *vocabulary_new(const code *, const uint32_t *lengths, size_t strings);
void vocabulary_free(vocabulary *);
int32_t look_up(const vocabulary *, const code *, size_t n); /* the number of a string, or -1 */

/* segment.c */
typedef struct segmenter segmenter;
typedef struct {
    double *score;    /* best score of the rest of the run, from each place */
    uint32_t *next;   /* where the best word from each place ends */
    uint8_t *back;    /* four back pointers a place, for the tagger */
    size_t size;
} room;
int room_fit(room *, size_t n); /* grows it for runs of n; 0 when out of memory */
void room_free(room *);
size_t cut(const segmenter *, const code *run, size_t n, uint32_t *ends, room *);

/* Kinds of runs that texts are made of. */
enum { OTHER, HAN, LATIN, DIGIT };
static inline int kind(code c) {
    if ((c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf)) return HAN;
    if (c >= 'a' && c <= 'z') return LATIN;
    return c >= '0' && c <= '9' ? DIGIT : OTHER;
}

#endif
