/* The job's command: born in its leaf, told apart from an init by everything in identity.c. */
#ifndef JOBSUP_WORKLOAD_H
#define JOBSUP_WORKLOAD_H

#include "steps.h"

#include <sys/types.h>

/* Clone the workload into the leaf; it runs the steps after `cursor`. `streams` are its 0, 1, 2.
 * Returns its pid, or -1. `*report` is a pipe: a struct failure when a step of its failed, EOF
 * when it has executed its command. The streams stay the caller's to close. */
pid_t workload_start(const struct plan *plan, struct step *cursor, const int streams[3], int *report);

#endif
