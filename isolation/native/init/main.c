/* The init of one job: PID 1 of its namespaces, and the only process of ours that lives with it.
 *
 * Theory of operation. The init reads its plan, executes the steps up to STEP_WORKLOAD, and
 * clones the workload into the leaf. It stays outside the leaf itself: it is neither charged to
 * the job nor killed with it. Then it waits for events, all in one loop: a child ended, a request
 * came, a timer went off, a stream ended, memory ran high. Whatever ends the job, there is one
 * way out (`finish`): kill the leaf and see it empty, let the output run dry, copy the counters,
 * remove the leaf, store and send the record. It needs nobody for that.
 *
 * It is a process of the job's PID namespace, so it guards itself: it is not dumpable before it
 * does anything else (no /proc/1/mem, no ptrace, no pidfd_getfd; CVE-2016-9962), its limits are out
 * of the job's reach, it ignores every signal but SIGKILL from outside, and after the pivot it opens
 * nothing of the job's files.
 */
#define _GNU_SOURCE
#include "control.h"
#include "feed.h"
#include "leaf.h"
#include "output.h"
#include "record.h"
#include "sys.h"
#include "workload.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

/* The sources of events. */
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

static struct {
	struct plan plan;
	int epoll;
	int fd[SOURCE_COUNT]; /* -1: not there */
	pid_t workload;       /* 0: not started, or its status is known */
	struct timespec started;
	bool ended;           /* the workload's first process is gone, or never came */
	bool paused;          /* to be frozen: its clocks stand still */
	bool frozen;          /* every process of it is, as the kernel says */
	struct itimerspec wall_left; /* when paused */
	bool draining;        /* nothing is left of the job but what its reader has not taken yet */
	bool abandoned;       /* and is not to be waited for: the starter has gone, or insists */
} init;

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
	init.ended = true;
	return -1;
}

/* A failure of the init itself, told as one of the step that clones the workload. */
static int fail_here(const struct step *step)
{
	return fail(&(struct failure){
		.step = (int32_t)step->index, .error = errno, .op = step->op});
}

static int watch(enum source source, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.u32 = source};
	if (fd < 0 || epoll_ctl(init.epoll, EPOLL_CTL_ADD, fd, &event) != 0)
		return -1;
	init.fd[source] = fd;
	return 0;
}

static void unwatch(enum source source)
{
	if (init.fd[source] < 0)
		return;
	(void)close(init.fd[source]); /* leaves the epoll set with it */
	init.fd[source] = -1;
}

static int set_timer(enum source source, uint64_t milliseconds)
{
	struct itimerspec when = {
		.it_value = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000}};
	if (milliseconds == 0)
		when.it_value.tv_nsec = 1; /* all zero would disarm it */
	if (init.fd[source] < 0 &&
	    watch(source, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), EPOLLIN) != 0)
		return -1;
	return timerfd_settime(init.fd[source], 0, &when, NULL);
}

static void tell_status(void)
{
	control_tell(&(struct status){
		.started_ns = record_head.started_ns,
		.paused = init.frozen,
		.ending = record_head.ended_by,
	});
}

/* The first reason holds: what comes later only hastens the end. */
static void because(enum ended_by reason)
{
	if (record_head.ended_by != ENDED_NOTHING || init.ended)
		return;
	record_head.ended_by = reason;
	tell_status();
}

static void kill_job(enum ended_by reason)
{
	because(reason);
	(void)leaf_kill();
}

/* To the process group of the first process, as a terminal would: a shell and what it waits for. */
static void signal_job(int number)
{
	if (init.workload <= 0)
		return;
	/* Until it has made its group there is only itself. */
	if (kill(-init.workload, number) != 0)
		(void)kill(init.workload, number);
}

static void drain_counter(enum source source)
{
	uint64_t count;
	(void)!read(init.fd[source], &count, sizeof count);
}

/* One processor can use at most the budget's rest in its time, n processors in an n-th of it. */
static void on_cpu(void)
{
	int64_t budget = (int64_t)init.plan.head->cpu_usec, used = leaf_cpu_usec();
	uint64_t processors = init.plan.head->processors;
	if (init.fd[ON_CPU] >= 0)
		drain_counter(ON_CPU);
	if (init.paused)
		return; /* it uses none, and is looked at again when it goes on */
	if (used >= budget) {
		kill_job(ENDED_CPU_TIME);
		return;
	}
	uint64_t rest_ms = (uint64_t)(budget - used) / 1000 / (processors > 0 ? processors : 1);
	if (set_timer(ON_CPU, rest_ms < 5 ? 5 : rest_ms) != 0)
		kill_job(ENDED_CPU_TIME); /* unwatched it may not go on */
}

static void on_frozen(void)
{
	int frozen = leaf_is_frozen(init.fd[ON_FROZEN]);
	if (frozen < 0)
		unwatch(ON_FROZEN);
	else if (init.frozen != (frozen == 1)) {
		init.frozen = frozen == 1;
		tell_status();
	}
}

static void stop_wall_clock(void)
{
	const struct itimerspec never = {0};
	(void)timerfd_settime(init.fd[ON_WALL], 0, &never, &init.wall_left);
	if (init.wall_left.it_value.tv_sec == 0 && init.wall_left.it_value.tv_nsec == 0)
		init.wall_left.it_value.tv_nsec = 1; /* it had come this moment */
}

/* A job that is being ended goes on to its end. */
static void pause_job(void)
{
	if (init.paused || init.ended || record_head.ended_by != ENDED_NOTHING)
		return;
	if (init.fd[ON_FROZEN] < 0 && watch(ON_FROZEN, leaf_open("cgroup.events"), EPOLLPRI) != 0)
		return;
	on_frozen();
	if (leaf_freeze(true) != 0)
		return;
	init.paused = true;
	if (init.fd[ON_WALL] >= 0)
		stop_wall_clock();
}

static void resume_job(void)
{
	if (!init.paused)
		return;
	(void)leaf_freeze(false);
	init.paused = false;
	if (init.fd[ON_WALL] >= 0)
		(void)timerfd_settime(init.fd[ON_WALL], 0, &init.wall_left, NULL);
	if (init.plan.head->cpu_usec != 0)
		on_cpu();
}

static void stop_job(enum ended_by reason, int number, uint64_t grace_ms)
{
	because(reason);
	if (grace_ms > 0)
		signal_job(number); /* without grace there is nothing to ask for */
	resume_job(); /* so that it can answer */
	if (grace_ms == 0 || set_timer(ON_GRACE, grace_ms) != 0)
		(void)leaf_kill();
}


static void on_child(void)
{
	struct signalfd_siginfo information;
	int status;
	pid_t pid;
	(void)!read(init.fd[ON_CHILD], &information, sizeof information);
	/* One signal may stand for many children, most of them orphans that came to us. */
	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
		if (pid != init.workload)
			continue;
		record_head.wait_status = status;
		init.workload = 0;
		init.ended = true;
	}
}

/* Whoever tells a job to end of which only the output is left wants to be rid of that. (A spool is
 * a disk, which takes what it is given.) */
static bool gives_up(const struct request *request)
{
	if (!init.draining || output_is_kept(init.plan.head))
		return false;
	if (request->type == REQUEST_SIGNAL)
		return request->number == SIGINT || request->number == SIGTERM ||
		       request->number == SIGHUP || request->number == SIGQUIT;
	return request->type == REQUEST_KILL;
}

static void obey(const struct request *request)
{
	if (gives_up(request)) {
		init.abandoned = true;
		return;
	}
	switch (request->type) {
	case REQUEST_SIGNAL:
		signal_job((int)request->number);
		break;
	case REQUEST_STOP:
		stop_job(ENDED_STOP, (int)request->number, request->grace_ms);
		break;
	case REQUEST_KILL:
		kill_job(ENDED_KILL);
		break;
	case REQUEST_PAUSE:
		pause_job();
		break;
	case REQUEST_RESUME:
		resume_job();
		break;
	default:
		break;
	}
}

/* Nobody is left for whom the job runs, or who reads what it wrote. */
static void abandon(void)
{
	init.abandoned = true;
	kill_job(ENDED_PEER_LOST);
}

static void drop_peer(void)
{
	(void)epoll_ctl(init.epoll, EPOLL_CTL_DEL, SLOT_CONTROL, NULL);
	init.fd[ON_REQUEST] = -1;
	control_vacate();
}

static void on_request(void)
{
	struct request request;
	int got;
	while ((got = control_request(&request)) > 0)
		obey(&request);
	if (got == 0)
		return;
	drop_peer();
	if (init.plan.head->peer_loss == PEER_LOSS_ENDS)
		abandon();
}

/* What the one before asked for counts: it is obeyed first. */
static void on_listener(void)
{
	int peer = control_accept();
	if (peer < 0)
		return;
	if (init.fd[ON_REQUEST] >= 0)
		on_request();
	if (init.fd[ON_REQUEST] >= 0)
		drop_peer();
	control_replace(peer);
	(void)watch(ON_REQUEST, SLOT_CONTROL, EPOLLIN);
	tell_status();
}

static void on_report(void)
{
	struct failure failure;
	ssize_t length = read(init.fd[ON_REPORT], &failure, sizeof failure);
	unwatch(ON_REPORT);
	if (length == (ssize_t)sizeof failure) {
		(void)fail(&failure);
		return;
	}
	/* EOF comes with execve, and with a death before it (an early SIGKILL): both are told by the
	 * wait status, so both count as executed. */
	record_head.flags |= RECORD_EXECUTED;
	record_head.started_ns = realtime();
	(void)clock_gettime(CLOCK_MONOTONIC, &init.started);
	/* Set before, so that an execve that hangs has its limit too; the command gets all of it. */
	if (init.fd[ON_WALL] >= 0) {
		(void)set_timer(ON_WALL, init.plan.head->wall_ms);
		if (init.paused)
			stop_wall_clock();
	}
	tell_status();
}

static void on_memory(void)
{
	char text[512];
	if (pread(init.fd[ON_MEMORY], text, sizeof text, 0) < 0) /* arms the next event */
		unwatch(ON_MEMORY); /* whoever gave the job up has removed the leaf */
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
		on_request();
		break;
	case ON_LISTENER:
		on_listener();
		break;
	case ON_LIFELINE:
		unwatch(ON_LIFELINE);
		abandon();
		break;
	case ON_REPORT:
		on_report();
		break;
	case ON_WALL:
		drain_counter(ON_WALL);
		if (!init.paused) /* else it came together with the pause, and comes again */
			stop_job(ENDED_WALL_TIME, SIGTERM, init.plan.head->grace_ms);
		break;
	case ON_GRACE:
		drain_counter(ON_GRACE);
		(void)leaf_kill();
		break;
	case ON_CPU:
		on_cpu();
		break;
	case ON_OUTPUT:
		drain_counter(ON_OUTPUT);
		if (output_over_cap())
			kill_job(ENDED_OUTPUT);
		break;
	case ON_MEMORY:
		on_memory();
		break;
	case ON_FROZEN:
		on_frozen();
		break;
	case SOURCE_COUNT:
		break;
	}
}

static void wait_events(void)
{
	struct epoll_event events[SOURCE_COUNT];
	int count = epoll_wait(init.epoll, events, SOURCE_COUNT, -1);
	for (int i = 0; i < count; i++)
		if (init.fd[events[i].data.u32] >= 0) /* one before it may have closed it */
			handle((enum source)events[i].data.u32);
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
	return watch(ON_CHILD, signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), EPOLLIN);
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
	return plan_check(&init.plan, bytes, (size_t)status.st_size);
}

static bool has_slot(enum slot slot)
{
	return init.plan.head->slots & 1U << slot;
}

static int watch_events(void)
{
	if (watch(ON_REQUEST, SLOT_CONTROL, EPOLLIN) != 0 ||
	    watch(ON_OUTPUT, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), EPOLLIN) != 0)
		return -1;
	if (has_slot(SLOT_LISTENER) &&
	    (control_listen() != 0 || watch(ON_LISTENER, SLOT_LISTENER, EPOLLIN) != 0))
		return -1;
	/* Only its end is asked for (POLLHUP always is), so that nobody can wake us with bytes. */
	if (has_slot(SLOT_LIFELINE) && watch(ON_LIFELINE, SLOT_LIFELINE, EPOLLRDHUP) != 0)
		return -1;
	int memory = leaf_open("memory.events");
	if (memory >= 0 && watch(ON_MEMORY, memory, EPOLLPRI) == 0) {
		char text[512];
		(void)!pread(memory, text, sizeof text, 0);
	}
	return 0;
}

/* The workload, its output and its limits; -1 when it did not come to be. */
static int start_workload(struct step *cursor)
{
	int streams[3], report;
	if (watch_events() != 0 || (streams[0] = feed_open(init.plan.head)) < 0 ||
	    output_open(init.plan.head, streams + 1) != 0)
		return fail_here(cursor);
	if (init.plan.head->wall_ms != 0 && set_timer(ON_WALL, init.plan.head->wall_ms) != 0)
		return fail_here(cursor);
	if (has_slot(SLOT_SPOOL))
		record_reserve();
	const struct step at = *cursor;
	init.workload = workload_start(&init.plan, cursor, streams, &report);
	for (int i = 0; i < 3; i++)
		(void)close(streams[i]); /* or the job's EOF would never come */
	/* Threads come last: the copy is made of a process without any, and is on its way meanwhile. */
	if (init.workload < 0 || output_start(init.fd[ON_OUTPUT]) != 0 || feed_start() != 0 ||
	    watch(ON_REPORT, report, EPOLLIN) != 0) {
		init.workload = 0;
		return fail_here(&at);
	}
	if (init.plan.head->cpu_usec != 0)
		on_cpu();
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
	if (init.workload > 0 && clean && waitpid(init.workload, &status, __WALL) == init.workload)
		record_head.wait_status = status;
	record_head.ended_ns = realtime();
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	if (record_head.flags & RECORD_EXECUTED)
		record_head.wall_ns = nanoseconds(now) - nanoseconds(init.started);

	/* The reader may take its time for what is in the pipes: nothing is dropped. When it was the
	 * starter who has gone, nobody is left to read. */
	output_last_call();
	init.draining = true;
	while (!output_ended() && !init.abandoned)
		wait_events();
	if (!output_ended())
		output_give_up();
	struct output_totals totals = output_close();
	record_head.stdout_bytes = totals.stdout_bytes;
	record_head.stderr_bytes = totals.stderr_bytes;
	record_head.lost_bytes = totals.lost_bytes;
	record_head.output_errno = totals.error;
	record_collect();
	if (!clean || leaf_remove(init.plan.head->leaf) != 0)
		record_head.flags |= RECORD_LEAF_STAYS;
	if (has_slot(SLOT_SPOOL) && record_store() != 0 && record_head.output_errno == 0)
		record_head.output_errno = errno;
	if (init.fd[ON_LISTENER] >= 0)
		on_listener(); /* who comes later sees EOF, and reads what is stored */
	(void)record_send();
	return 0;
}

int main(void)
{
	struct step cursor = {0};
	struct failure failure = {.step = -1};

	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || open_plan() != 0)
		return 1; /* EOF without a record: the starter says that the init was lost */
	for (int i = 0; i < SOURCE_COUNT; i++)
		init.fd[i] = -1;
	init.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (init.epoll < 0 || own_signals() != 0 || stand_apart() != 0)
		return 1;
	(void)umask(0);
	(void)prctl(PR_SET_NAME, "jobsup-init", 0, 0, 0); /* else ps shows the memfd it was read from */

	if (steps_run(&init.plan, &cursor, STEP_WORKLOAD, &failure) != 0)
		(void)fail(&failure);
	else
		(void)start_workload(&cursor);
	/* A report that was not read yet tells how the end is to be understood. */
	while (!init.ended || init.fd[ON_REPORT] >= 0)
		wait_events();
	return finish();
}
