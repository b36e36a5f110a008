/* The exit record: collected, stored, sent. The layout is in abi.h. */
#ifndef JOBSUP_RECORD_H
#define JOBSUP_RECORD_H

#include "../abi.h"

#include <stdbool.h>

/* The head is filled by whoever learns the facts. */
extern struct record_head record_head;

/* Keep memory.stat as it is now: after the end it says zero everywhere. */
void record_sample_memory(void);

/* Add the leaf's counters, after its last process and before it is removed. */
void record_collect(void);

/* Take the space on disk that it will need, while there is some: how a job ended can then be stored
 * on a disk that the job has filled. Without space it is tried again at the end. */
void record_reserve(void);

/* Store it in SLOT_SPOOL: written, synced, renamed, the directory synced. -1 with errno. */
int record_store(void);

/* Send it to the peer of SLOT_CONTROL. */
int record_send(void);

#endif
