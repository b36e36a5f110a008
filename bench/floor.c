/* The floor: what a launch costs when nothing but C and the kernel is involved, so that what is
 * measured above it is ours.
 *
 *   floor launch PLAN INIT INITS JOBS LEAF [FILE=VALUE...]
 *       one job: mkdir the leaf, write its limits, clone3 into the inits' cgroup and execveat the
 *       same init (the product's own shim does it), with the very bytes of PLAN; wait for the
 *       started message, for EOF, and reap
 *   floor exec PROGRAM [ARG...]
 *       one vfork and execve of a program in PATH, with /dev/null as its streams, and its end
 *
 * Both read a count a line from stdin, do it so many times one after the other, and answer with a
 * line for each: ns to exec (0: not known), ns to the end, µs of CPU time of all that took part.
 *
 *   floor write BYTES          that many bytes to stdout, 64 KiB at a time; on stderr the ns it took
 *   floor copy [FILE]          a pipe on stdin into a new FILE, or read and dropped
 */
#define _GNU_SOURCE
#include "../isolation/native/shim.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The product's choice: isolation/spawn.py. */
enum { NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000 };
enum { CHUNK = 64 * 1024, COPY_CHUNK = 256 * 1024 };

struct sample {
	long long exec_ns, end_ns;
};

static char buffer[COPY_CHUNK];

static long long now(void)
{
	struct timespec time;
	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long cpu_usec(void)
{
	long long sum = 0;
	const int whose[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
	for (int i = 0; i < 2; i++) {
		struct rusage usage;
		(void)getrusage(whose[i], &usage);
		sum += (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL +
		       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
	}
	return sum;
}

static int sealed(const char *path)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	int memory = memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t got;
	if (file < 0 || memory < 0)
		err(1, "%s", path);
	while ((got = read(file, buffer, sizeof buffer)) > 0)
		if (write(memory, buffer, (size_t)got) != got)
			err(1, "memfd");
	(void)close(file);
	(void)fcntl(memory, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	return memory;
}

static int directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static struct {
	const char *plan, *leaf;
	int init, inits, jobs;
	char **limits; /* FILE=VALUE, NULL at the end */
} job;

static void set_limits(int leaf, char *const *limits)
{
	for (; *limits != NULL; limits++) {
		char file[64];
		const char *equals = strchr(*limits, '=');
		(void)snprintf(file, sizeof file, "%.*s", (int)(equals - *limits), *limits);
		/* O_CREAT: for the stand-in of a cgroup (standin.py); in a real one they are there */
		int fd = openat(leaf, file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, equals + 1, strlen(equals + 1)) < 0)
			err(1, "%s", *limits);
		(void)close(fd);
	}
}

static struct sample launch(void)
{
	struct sample sample = {0, 0};
	long long begun = now();
	static struct {
		struct message_head head;
		char payload[RECORD_MAX];
	} message;
	int ends[2];

	if (mkdirat(job.jobs, job.leaf, 0755) != 0)
		err(1, "mkdir %s", job.leaf);
	int leaf = openat(job.jobs, job.leaf, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	set_limits(leaf, job.limits);
	int plan = sealed(job.plan);
	if (leaf < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		err(1, "socketpair");
	int slots[SLOT_COUNT] = {plan, ends[1], leaf, job.jobs, -1, -1, -1, -1, -1, -1};
	struct spawn_result spawned = jobsup_spawn(job.init, job.inits, NAMESPACES, slots, SLOT_COUNT);
	if (spawned.pid < 0)
		errx(1, "stage %d: %s", spawned.stage, strerror(spawned.error));
	(void)close(plan);
	(void)close(ends[1]);
	while (recv(ends[0], &message, sizeof message, 0) > 0)
		if (message.head.type == MESSAGE_STATUS)
			sample.exec_ns = now() - begun;
	(void)close(ends[0]);
	siginfo_t information;
	if (waitid(P_PIDFD, (id_t)spawned.pidfd, &information, WEXITED) != 0)
		err(1, "waitid");
	(void)close(spawned.pidfd);
	sample.end_ns = now() - begun;
	if (sample.exec_ns == 0)
		errx(1, "the job was not executed");

	/* What only the stand-in leaves behind. */
	for (char **limit = job.limits; *limit != NULL; limit++) {
		char file[64];
		(void)snprintf(file, sizeof file, "%.*s", (int)strcspn(*limit, "="), *limit);
		(void)unlinkat(leaf, file, 0);
	}
	(void)unlinkat(job.jobs, job.leaf, AT_REMOVEDIR);
	(void)close(leaf);
	return sample;
}

static char **program;

static struct sample execute(void)
{
	static volatile int failed;
	int status;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	long long begun = now();
	pid_t pid = vfork();
	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			(void)dup2(null, i);
		(void)execvp(program[0], program);
		failed = errno;
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(1, "vfork");
	struct sample sample = {0, now() - begun};
	(void)close(null);
	if (failed != 0)
		errx(1, "%s: %s", program[0], strerror(failed));
	if (status != 0)
		errx(1, "%s: wait status %d", program[0], status);
	return sample;
}

static int serve(struct sample (*one)(void))
{
	char line[32];
	while (fgets(line, sizeof line, stdin) != NULL) {
		for (int count = atoi(line); count > 0; count--) {
			long long before = cpu_usec();
			struct sample sample = one();
			(void)printf("%lld %lld %lld\n", sample.exec_ns, sample.end_ns, cpu_usec() - before);
		}
		(void)fflush(stdout);
	}
	return 0;
}

static int write_bytes(long long bytes)
{
	memset(buffer, 'x', CHUNK);
	long long begun = now();
	while (bytes > 0) {
		ssize_t wrote = write(1, buffer, bytes < CHUNK ? (size_t)bytes : CHUNK);
		if (wrote < 0)
			err(1, "write");
		bytes -= wrote;
	}
	(void)fprintf(stderr, "%lld\n", now() - begun);
	return 0;
}

static int copy(const char *path)
{
	int file = path == NULL ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t got;
	if (path != NULL && file < 0)
		err(1, "%s", path);
	while ((got = read(0, buffer, sizeof buffer)) > 0)
		if (file >= 0 && write(file, buffer, (size_t)got) != got)
			err(1, "%s", path);
	return got == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	if (strcmp(mode, "launch") == 0 && argc >= 7) {
		job.plan = argv[2];
		job.init = sealed(argv[3]);
		job.inits = directory(argv[4]);
		job.jobs = directory(argv[5]);
		job.leaf = argv[6];
		job.limits = argv + 7;
		return serve(launch);
	}
	if (strcmp(mode, "exec") == 0 && argc >= 3) {
		program = argv + 2;
		return serve(execute);
	}
	if (strcmp(mode, "write") == 0 && argc == 3)
		return write_bytes(atoll(argv[2]));
	if (strcmp(mode, "copy") == 0 && argc <= 3)
		return copy(argc == 3 ? argv[2] : NULL);
	errx(2, "see the head of floor.c");
}
