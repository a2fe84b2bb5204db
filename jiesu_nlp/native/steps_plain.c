#define READER read_plain
#define LANES 4
#include "steps.h"
