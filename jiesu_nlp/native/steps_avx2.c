#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2")
#define READER read_avx2
#define LANES 8
#include "steps.h"
#endif
