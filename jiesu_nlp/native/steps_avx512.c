#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
#define READER read_avx512
#define LANES 16
#include "steps.h"
#endif
