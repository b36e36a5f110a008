#define _GNU_SOURCE
#include "feed.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

/* STEP: what one system call may move; a signal or an end is seen between two. */
enum { STEP = 1 << 20, STACK_SIZE = 16 * 1024, CHUNK = 16 * 1024 };

static int sink = -1; /* write end of the job's pipe, when there is something to copy */

int feed_open(const struct plan_head *head)
{
	struct stat status;
	int ends[2];
	bool given = plan_has_slot(head, SLOT_STDIN);
	if (given && fstat(SLOT_STDIN, &status) != 0)
		return -1;
	if (given && !S_ISREG(status.st_mode))
		return SLOT_STDIN;
	/* A file itself would reach the host, and could be read from any place in it. */
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	if (given)
		sink = ends[1];
	else
		(void)close(ends[1]);
	return ends[0];
}

/* Where the file cannot be spliced. */
static ssize_t copy_chunk(void)
{
	static char buffer[CHUNK];
	ssize_t got = read(SLOT_STDIN, buffer, sizeof buffer);
	for (ssize_t done = 0; done < got;) {
		ssize_t wrote = write(sink, buffer + done, (size_t)(got - done));
		if (wrote < 0 && errno != EINTR)
			return -1;
		done += wrote > 0 ? wrote : 0;
	}
	return got;
}

/* Until the end of the file, or until nobody has the job's end open any more (EPIPE; SIGPIPE is
 * dropped, as PID 1 takes it). What still sleeps when the init ends goes with it. */
static void *run(void *argument)
{
	bool splices = true;
	ssize_t moved;
	(void)argument;
	do {
		moved = splices ? splice(SLOT_STDIN, NULL, sink, NULL, STEP, SPLICE_F_MOVE) : copy_chunk();
		if (moved < 0 && errno == EINVAL && splices) {
			splices = false;
			moved = 1;
		}
	} while (moved > 0 || (moved < 0 && errno == EINTR));
	(void)close(sink);
	(void)close(SLOT_STDIN);
	return NULL;
}

int feed_start(void)
{
	pthread_attr_t attributes;
	pthread_t thread;
	if (sink < 0)
		return 0;
	int error = pthread_attr_init(&attributes);
	if (error == 0)
		error = pthread_attr_setstacksize(&attributes, STACK_SIZE);
	if (error == 0)
		error = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (error == 0)
		error = pthread_create(&thread, &attributes, run, NULL);
	errno = error;
	return error == 0 ? 0 : -1;
}
