/* The init of one job: PID 1 of its namespaces, and the only process of ours that lives with it.
 *
 * Theory of operation. The init reads its plan, executes the steps up to STEP_WORKLOAD, and
 * clones the workload into the leaf. It stays outside the leaf itself: it is neither charged to
 * the job nor killed with it. Then it waits for events, all in one loop: a child ended, a request
 * came, a timer went off, a stream ended, memory ran high (events.c waits for them, requests.c
 * obeys, job.c has the timers). Whatever ends the job, there is one way out (`finish`): kill the
 * leaf and see it empty, let the output run dry, copy the counters, remove the leaf, store and send
 * the record. It needs nobody for that.
 *
 * It is a process of the job's PID namespace, so it guards itself: it is not dumpable before it
 * does anything else (no /proc/1/mem, no ptrace, no pidfd_getfd; CVE-2016-9962), its limits are out
 * of the job's reach, it ignores every signal but SIGKILL from outside, and after the pivot it opens
 * nothing of the job's files.
 */
#define _GNU_SOURCE
#include "events.h"
#include "feed.h"
#include "job.h"
#include "leaf.h"
#include "output.h"
#include "record.h"
#include "requests.h"
#include "sys.h"
#include "workload.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct timespec executed; /* when the command was, on CLOCK_MONOTONIC */

static uint64_t nanoseconds(struct timespec time)
{
	return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

static uint64_t realtime(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	return nanoseconds(now);
}

static int fail(const struct failure *failure)
{
	record_head.failed_step = failure->step;
	record_head.failed_errno = failure->error;
	record_head.failed_op = failure->op;
	if (failure->interpreter)
		record_head.flags |= RECORD_INTERPRETER;
	job.ended = true;
	return -1;
}

/* A failure of the init itself, told as one of the step that clones the workload. */
static int fail_here(const struct step *step)
{
	return fail(&(struct failure){
		.step = (int32_t)step->index, .error = errno, .op = step->op});
}

static void on_child(void)
{
	struct signalfd_siginfo information;
	int status;
	pid_t pid;
	(void)!read(events_fd(ON_CHILD), &information, sizeof information);
	/* One signal may stand for many children, most of them orphans that came to us. */
	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
		if (pid != job.workload)
			continue;
		record_head.wait_status = status;
		job.workload = 0;
		job.ended = true;
	}
}

static void on_report(void)
{
	struct failure failure;
	ssize_t length = read(events_fd(ON_REPORT), &failure, sizeof failure);
	events_unwatch(ON_REPORT);
	if (length == (ssize_t)sizeof failure) {
		(void)fail(&failure);
		return;
	}
	/* EOF comes with execve, and with a death before it (an early SIGKILL): both are told by the
	 * wait status, so both count as executed. */
	record_head.flags |= RECORD_EXECUTED;
	record_head.started_ns = realtime();
	(void)clock_gettime(CLOCK_MONOTONIC, &executed);
	/* Set before, so that an execve that hangs has its limit too; the command gets all of it. */
	(void)job_start_wall_time();
	job_tell();
}

static void on_output(void)
{
	(void)events_drain(ON_OUTPUT);
	if (output_over_cap())
		job_kill(ENDED_OUTPUT);
}

static void on_memory(void)
{
	char text[512];
	if (pread(events_fd(ON_MEMORY), text, sizeof text, 0) < 0) /* arms the next event */
		events_unwatch(ON_MEMORY); /* whoever gave the job up has removed the leaf */
	else
		record_sample_memory();
}

static void handle(enum source source)
{
	switch (source) {
	case ON_CHILD:
		on_child();
		break;
	case ON_REQUEST:
		requests_on_peer();
		break;
	case ON_LISTENER:
		requests_on_listener();
		break;
	case ON_LIFELINE:
		requests_on_lifeline();
		break;
	case ON_REPORT:
		on_report();
		break;
	case ON_WALL:
		job_on_wall();
		break;
	case ON_GRACE:
		job_on_grace();
		break;
	case ON_CPU:
		job_on_cpu();
		break;
	case ON_OUTPUT:
		on_output();
		break;
	case ON_MEMORY:
		on_memory();
		break;
	case ON_FROZEN:
		job_on_frozen();
		break;
	case SOURCE_COUNT:
		break;
	}
}

/* For PID 1 the default action of every signal is to be dropped, SIGPIPE included; only SIGKILL and
 * SIGSTOP from the parent namespace work. So nothing but SIGCHLD is blocked: what is blocked is
 * queued, and a job of root's could fill root's queue with real-time signals. What Python had set
 * to be ignored must not reach the workload, which inherits it through execve. */
static int own_signals(void)
{
	sigset_t child;
	for (int number = 1; number < NSIG; number++)
		(void)signal(number, SIG_DFL);
	(void)sigemptyset(&child);
	(void)sigaddset(&child, SIGCHLD);
	if (sigprocmask(SIG_SETMASK, &child, NULL) != 0)
		return -1;
	return events_watch(ON_CHILD, signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), EPOLLIN);
}

/* prlimit(2) lets a process change the limits of whoever has all of its ids, and a job of root's has
 * those of its init: without descriptors, an init could no longer kill. With a saved gid of its own
 * the init is nobody's equal. */
static int stand_apart(void)
{
	return (int)syscall(SYS_setresgid, -1, -1, 65534);
}

static int open_plan(void)
{
	struct stat status;
	if (fstat(SLOT_PLAN, &status) != 0)
		return -1;
	void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, SLOT_PLAN, 0);
	if (bytes == MAP_FAILED)
		return -1;
	return plan_check(&job.plan, bytes, (size_t)status.st_size);
}

static int watch_events(void)
{
	if (requests_watch() != 0 ||
	    events_watch(ON_OUTPUT, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), EPOLLIN) != 0)
		return -1;
	int memory = leaf_open("memory.events");
	if (memory >= 0 && events_watch(ON_MEMORY, memory, EPOLLPRI) == 0) {
		char text[512];
		(void)!pread(memory, text, sizeof text, 0);
	}
	return 0;
}

/* The workload, its output and its limits; -1 when it did not come to be. */
static int start_workload(struct step *cursor)
{
	int streams[3], report;
	if (watch_events() != 0 || (streams[0] = feed_open(job.plan.head)) < 0 ||
	    output_open(job.plan.head, streams + 1) != 0)
		return fail_here(cursor);
	if (job_start_wall_time() != 0)
		return fail_here(cursor);
	if (plan_has_slot(job.plan.head, SLOT_SPOOL))
		record_reserve();
	const struct step at = *cursor;
	job.workload = workload_start(&job.plan, cursor, streams, &report);
	for (int i = 0; i < 3; i++)
		(void)close(streams[i]); /* or the job's EOF would never come */
	/* Threads come last: the copy is made of a process without any, and is on its way meanwhile. */
	if (job.workload < 0 || output_start(events_fd(ON_OUTPUT)) != 0 || feed_start() != 0 ||
	    events_watch(ON_REPORT, report, EPOLLIN) != 0) {
		job.workload = 0;
		return fail_here(&at);
	}
	job_start_cpu_time();
	return 0;
}

/* One way out for every job, however it ended and whatever failed. */
static int finish(void)
{
	bool clean;
	int status;
	struct timespec now;

	(void)leaf_kill();
	clean = leaf_wait_empty(60) == 0;
	if (job.workload > 0 && clean && waitpid(job.workload, &status, __WALL) == job.workload)
		record_head.wait_status = status;
	record_head.ended_ns = realtime();
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	job_end_pause();
	if (record_head.flags & RECORD_EXECUTED)
		record_head.wall_ns = nanoseconds(now) - nanoseconds(executed);

	/* The reader may take its time for what is in the pipes: nothing is dropped. When it was the
	 * starter who has gone, nobody is left to read. */
	output_last_call();
	job.draining = true;
	while (!output_ended() && !job.abandoned)
		events_wait(handle);
	if (!output_ended())
		output_give_up();
	struct output_totals totals = output_close();
	record_head.stdout_bytes = totals.stdout_bytes;
	record_head.stderr_bytes = totals.stderr_bytes;
	record_head.lost_bytes = totals.lost_bytes;
	record_head.output_errno = totals.error;
	record_collect();
	if (!clean || leaf_remove(job.plan.head->leaf) != 0)
		record_head.flags |= RECORD_LEAF_STAYS;
	if (plan_has_slot(job.plan.head, SLOT_SPOOL) && record_store() != 0 &&
	    record_head.output_errno == 0)
		record_head.output_errno = errno;
	if (events_fd(ON_LISTENER) >= 0)
		requests_on_listener(); /* who comes later sees EOF, and reads what is stored */
	(void)record_send();
	return 0;
}

int main(void)
{
	struct step cursor = {0};
	struct failure failure = {.step = -1};

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || open_plan() != 0)
		return 1; /* EOF without a record: the starter says that the init was lost */
	if (events_open() != 0 || own_signals() != 0 || stand_apart() != 0)
		return 1;
	(void)umask(0);
	(void)prctl(PR_SET_NAME, "jobsup-init", 0, 0, 0); /* else ps shows the memfd it was read from */

	if (steps_run(&job.plan, &cursor, STEP_WORKLOAD, &failure) != 0)
		(void)fail(&failure);
	else
		(void)start_workload(&cursor);
	/* A report that was not read yet tells how the end is to be understood. */
	while (!job.ended || events_fd(ON_REPORT) >= 0)
		events_wait(handle);
	return finish();
}
