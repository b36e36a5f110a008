/* Theory of operation. The first reason to end a job holds, and only the leaf's being empty is its
 * end: whatever is done here hastens that, and waits for nothing.
 *
 * A paused job's clocks stand still. The freezer works some time after it is asked to, so there are
 * two facts: `paused` is what is wanted, and stops the clocks; `frozen` is what the kernel says, and
 * is what is told. */
#define _GNU_SOURCE
#include "job.h"
#include "control.h"
#include "events.h"
#include "leaf.h"
#include "record.h"

#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

struct job job;

static bool paused; /* to be frozen */
static bool frozen; /* every process of it is */
static struct itimerspec wall_left; /* when paused */
static uint64_t paused_since; /* ms of CLOCK_MONOTONIC */

void job_tell(void)
{
	control_tell(&(struct status){
		.started_ns = record_head.started_ns,
		.paused = frozen,
		.ending = record_head.ended_by,
	});
}

void job_signal(int number)
{
	if (job.workload <= 0)
		return;
	/* Until it has made its group there is only itself. */
	if (kill(-job.workload, number) != 0)
		(void)kill(job.workload, number);
}

static void because(enum ended_by reason)
{
	if (record_head.ended_by != ENDED_NOTHING || job.ended)
		return;
	record_head.ended_by = reason;
	job_tell();
}

void job_kill(enum ended_by reason)
{
	because(reason);
	(void)leaf_kill();
}

void job_stop(enum ended_by reason, int number, uint64_t grace_ms)
{
	because(reason);
	if (grace_ms > 0)
		job_signal(number); /* without grace there is nothing to ask for */
	job_resume(); /* so that it can answer */
	if (grace_ms == 0 || events_set_timer(ON_GRACE, grace_ms) != 0)
		(void)leaf_kill();
}

void job_on_grace(void)
{
	if (events_drain(ON_GRACE))
		(void)leaf_kill();
}

static uint64_t monotonic_ms(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void stop_wall_clock(void)
{
	const struct itimerspec never = {0};
	(void)timerfd_settime(events_fd(ON_WALL), 0, &never, &wall_left);
	if (wall_left.it_value.tv_sec == 0 && wall_left.it_value.tv_nsec == 0)
		wall_left.it_value.tv_nsec = 1; /* it had come this moment */
}

int job_start_wall_time(void)
{
	if (job.plan.head->wall_ms == 0)
		return 0;
	if (events_set_timer(ON_WALL, job.plan.head->wall_ms) != 0)
		return -1;
	if (paused)
		stop_wall_clock();
	return 0;
}

void job_on_wall(void)
{
	/* It may have come together with the start or a pause, and comes again then. */
	if (events_drain(ON_WALL))
		job_stop(ENDED_WALL_TIME, SIGTERM, job.plan.head->grace_ms);
}

/* One processor can use at most the budget's rest in its time, n processors in an n-th of it. */
static void look_at_cpu_time(void)
{
	int64_t budget = (int64_t)job.plan.head->cpu_usec, used = leaf_cpu_usec();
	uint64_t processors = job.plan.head->processors;
	if (used >= budget) {
		job_kill(ENDED_CPU_TIME);
		return;
	}
	uint64_t rest_ms = (uint64_t)(budget - used) / 1000 / (processors > 0 ? processors : 1);
	if (events_set_timer(ON_CPU, rest_ms < 5 ? 5 : rest_ms) != 0)
		job_kill(ENDED_CPU_TIME); /* unwatched it may not go on */
}

void job_start_cpu_time(void)
{
	if (job.plan.head->cpu_usec != 0)
		look_at_cpu_time();
}

void job_on_cpu(void)
{
	(void)events_drain(ON_CPU);
	if (!paused) /* else it uses none, and is looked at again when it goes on */
		look_at_cpu_time();
}

void job_on_frozen(void)
{
	int now = leaf_is_frozen(events_fd(ON_FROZEN));
	if (now < 0)
		events_unwatch(ON_FROZEN);
	else if (frozen != (now == 1)) {
		frozen = now == 1;
		job_tell();
	}
}

/* A job that is being ended goes on to its end. */
void job_pause(void)
{
	if (paused || job.ended || record_head.ended_by != ENDED_NOTHING)
		return;
	if (events_fd(ON_FROZEN) < 0 && events_watch(ON_FROZEN, leaf_open("cgroup.events"), EPOLLPRI) != 0)
		return;
	job_on_frozen();
	if (leaf_freeze(true) != 0)
		return;
	paused = true;
	paused_since = monotonic_ms();
	if (events_fd(ON_WALL) >= 0)
		stop_wall_clock();
}

void job_end_pause(void)
{
	if (!paused)
		return;
	paused = false;
	uint64_t all = record_head.paused_ms + (monotonic_ms() - paused_since);
	record_head.paused_ms = all < UINT32_MAX ? (uint32_t)all : UINT32_MAX;
}

void job_resume(void)
{
	if (!paused)
		return;
	(void)leaf_freeze(false);
	job_end_pause();
	if (events_fd(ON_WALL) >= 0)
		(void)timerfd_settime(events_fd(ON_WALL), 0, &wall_left, NULL);
	job_start_cpu_time();
}
