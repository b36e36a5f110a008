/* The job's stdin: the caller's pipe, an empty one, or a file that is copied into one here. */
#ifndef JOBSUP_FEED_H
#define JOBSUP_FEED_H

#include "plan.h"

/* What the job is to read as its descriptor 0, the caller's to close; -1 with errno. */
int feed_open(const struct plan_head *head);

/* Start the thread that copies, when there is a file. -1 with errno. */
int feed_start(void);

#endif
