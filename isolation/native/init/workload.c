#define _GNU_SOURCE
#include "workload.h"
#include "sys.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>

/* The workload's descriptors: its three streams, and the report until execve closes it. */
enum { REPORT = 3 };

static struct {
	const int *streams;
	int report;
} workload;

/* From here on a link through /proc/self/fd reaches pipes of ours and nothing else. Pipes belong
 * to whoever made them: given to the job's user, /dev/stdout can be opened by a non-root job. */
int workload_streams(const struct step *step)
{
	for (int i = 0; i < 3; i++)
		if (fchown(workload.streams[i], (uid_t)step->n[0], (gid_t)step->n[1]) != 0)
			return -1;
	for (int i = 0; i < 3; i++)
		if (dup2(workload.streams[i], i) < 0)
			return -1;
	if (dup3(workload.report, REPORT, O_CLOEXEC) < 0)
		return -1;
	workload.report = REPORT;
	return sys_close_range(REPORT + 1, ~0U);
}

static const char **take(const char **to, const char **string, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++, *string = string_after(*string))
		*to++ = *string;
	*to++ = NULL;
	return to;
}

/* Try the candidates as execvp(3) does: what is not there, or not ours to execute, is passed
 * over. ELIBBAD stands for "the file is there, but not the interpreter it names": execve says
 * ENOENT for both. */
int workload_exec(const struct step *step)
{
	size_t size = ((size_t)step->n[1] + step->n[2] + 2) * sizeof(char *);
	const char **argv = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (argv == MAP_FAILED)
		return -1;
	const char *candidate = step_string(step, 0);
	const char *string = candidate;
	for (uint64_t i = 0; i < step->n[0]; i++)
		string = string_after(string);
	const char **envp = take(argv, &string, step->n[1]);
	(void)take(envp, &string, step->n[2]);

	int error = ENOENT;
	for (uint64_t i = 0; i < step->n[0]; i++, candidate = string_after(candidate)) {
		(void)execve(candidate, (char *const *)argv, (char *const *)envp);
		if (errno == ENOENT && faccessat(AT_FDCWD, candidate, F_OK, 0) == 0)
			errno = ELIBBAD;
		if (errno == EACCES)
			error = EACCES; /* the best answer so far, should no other be found */
		else if (errno != ENOENT && errno != ENOTDIR)
			return -1;
	}
	errno = error;
	return -1;
}

/* Ignored and blocked signals survive execve; handlers do not, and the init has none. */
static void default_signals(void)
{
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void run_workload(const struct plan *plan, struct step *cursor)
{
	struct failure failure = {.step = -1};
	default_signals();
	(void)steps_run(plan, cursor, 0, &failure);
	/* Only reached when a step failed: the last one is execve. */
	ssize_t written = write(workload.report, &failure, sizeof failure);
	_exit(written == (ssize_t)sizeof failure ? 127 : 126);
}

pid_t workload_start(const struct plan *plan, struct step *cursor, const int streams[3], int *report)
{
	int pipe_ends[2];
	if (pipe2(pipe_ends, O_CLOEXEC) != 0)
		return -1;
	workload.streams = streams;
	workload.report = pipe_ends[1];

	/* A copy of the init, not a vfork: for the short way to execve it changes its user, and
	 * memory shared with the init would be that user's to trace. The init is tens of KiB. */
	struct clone_args args = {
		.flags = CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = SLOT_LEAF,
	};
	long pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		run_workload(plan, cursor);
	int error = errno;
	(void)close(pipe_ends[1]); /* or EOF would never come */
	if (pid < 0) {
		(void)close(pipe_ends[0]);
		errno = error;
		return -1;
	}
	*report = pipe_ends[0];
	return (pid_t)pid;
}
