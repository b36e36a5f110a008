/* The job's stdout and stderr, from its pipes to where they are kept or read.
 *
 * Each stream has a thread of its own: a full disk or a reader that has stopped reading holds up
 * that stream alone, never the timers, the control socket or the other stream. */
#ifndef JOBSUP_OUTPUT_H
#define JOBSUP_OUTPUT_H

#include "plan.h"

#include <stdbool.h>
#include <stdint.h>

struct output_totals {
	uint64_t stdout_bytes, stderr_bytes, lost_bytes;
	int32_t error; /* errno of the first write of it that failed; EPIPE: the reader had gone */
};

/* Whether output goes to the spool's files, and not to a reader. */
bool output_is_kept(const struct plan_head *head);

/* Make the pipes, open the spool; `ends` gets the job's stdout and stderr, the caller's to close
 * once the workload has them. -1 with errno. */
int output_open(const struct plan_head *head, int ends[2]);

/* Start the threads. `event` is an eventfd that is written when a stream has ended and when the
 * output cap is reached under FULL_KILL. */
int output_start(int event);

/* No process of the job is left: what is in the pipes is all that will come. */
void output_last_call(void);

/* After the last call: nobody takes the rest, count it as lost. */
void output_give_up(void);

bool output_ended(void);    /* both streams delivered to their last byte */
bool output_over_cap(void); /* FULL_KILL: the job is to be ended */

/* Once all has ended: what was delivered and lost, all of it on disk when it is kept. Before that,
 * what is left is given up: lost is what stands in the pipes, and the threads end with the init. */
struct output_totals output_close(void);

#endif
