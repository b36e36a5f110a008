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

/* Store it in SLOT_SPOOL when the job is kept: written, synced, renamed, the directory synced. */
int record_store(void);

/* Send it to the peer of SLOT_CONTROL. */
int record_send(void);

#endif
