/* What the init waits for: one epoll set, one descriptor a source. */
#ifndef JOBSUP_EVENTS_H
#define JOBSUP_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

enum source {
	ON_CHILD,    /* signalfd: SIGCHLD */
	ON_REQUEST,  /* SLOT_CONTROL */
	ON_LISTENER, /* SLOT_LISTENER: somebody takes charge */
	ON_LIFELINE, /* SLOT_LIFELINE: it was let go */
	ON_REPORT,   /* the workload executed its command, or could not */
	ON_WALL,     /* timerfd: --time */
	ON_GRACE,    /* timerfd: SIGTERM was not obeyed */
	ON_CPU,      /* timerfd: look at the CPU time again */
	ON_OUTPUT,   /* eventfd: a stream ended, or the cap is reached */
	ON_MEMORY,   /* memory.events changed */
	ON_FROZEN,   /* cgroup.events changed: there since the first pause */
	SOURCE_COUNT
};

/* Make the set, without a source. -1 with errno. */
int events_open(void);

/* Wait for `fd` as well, or -1 with errno: also when fd is -1, of an open that failed. */
int events_watch(enum source source, int fd, uint32_t events);

/* The descriptor of a source; -1: it is not in the set. */
int events_fd(enum source source);

/* Wait for it no more: closed, or left open for whoever knows it by its number. */
void events_unwatch(enum source source);
void events_leave_open(enum source source);

/* Have the timer of a source go off once, so many milliseconds from now; made when there is none.
 * -1 with errno. */
int events_set_timer(enum source source, uint64_t milliseconds);

/* Take what a timer or an eventfd has counted, so that it is silent until the next event. False:
 * nothing; a timer was set anew, or stopped, after it had gone off. */
bool events_drain(enum source source);

/* Wait until something happens, and have each thing handled. */
void events_wait(void (*handle)(enum source source));

#endif
