/* The job in the init's hands: what is known of it, what can be done to it, and its clocks. */
#ifndef JOBSUP_JOB_H
#define JOBSUP_JOB_H

#include "plan.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

extern struct job {
	struct plan plan;
	pid_t workload; /* 0: not started, or its status is known */
	bool ended;     /* the workload's first process is gone, or never came */
	bool draining;  /* nothing is left of the job but what its reader has not taken yet */
	bool abandoned; /* and is not to be waited for: the starter has gone, or insists */
} job;

/* Tell whoever is in charge how things are. */
void job_tell(void);

/* To the process group of the first process, as a terminal would: a shell and what it waits for. */
void job_signal(int number);

/* End it, for the reason that is told unless there was one before: at once, or by a signal and, after
 * a grace, by SIGKILL. */
void job_kill(enum ended_by reason);
void job_stop(enum ended_by reason, int number, uint64_t grace_ms);

/* Freeze it, with its clocks; let it go on. A job that is being ended is not paused. */
void job_pause(void);
void job_resume(void);

/* Count the pause in which it ended, if it did. */
void job_end_pause(void);

/* Give it all of its wall time from now on, or a look at its CPU time, where that is limited.
 * -1 with errno: the wall time cannot be watched. CPU time that cannot be watched kills the job. */
int job_start_wall_time(void);
void job_start_cpu_time(void);

/* The events of its timers and of its cgroup. */
void job_on_wall(void);
void job_on_grace(void);
void job_on_cpu(void);
void job_on_frozen(void);

#endif
