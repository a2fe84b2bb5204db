#define READER read_plain
#include "steps.h"
