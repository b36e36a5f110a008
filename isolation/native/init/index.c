#define _GNU_SOURCE
#include "index.h"
#include "../abi.h"

#include <errno.h>
#include <pthread.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* An entry of the index is larger than a byte of output. So a stream gets one a millisecond on
 * average; what one saved in a quiet time lets it write the next ones at once, each in its place
 * between those of the other stream. */
enum { ENTRY_NS = 1000000, SAVED_NS = 64 * ENTRY_NS };

static struct {
	int fd;
	off_t size;
	pthread_mutex_t lock;
} file = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

void index_begin(int fd)
{
	file.fd = fd;
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;
	(void)clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Whole or not at all: after a part of one no reader would find the others. One at a time, since
 * only then can a part be taken back. */
static int append(const struct index_entry *entry)
{
	int error = 0;
	(void)pthread_mutex_lock(&file.lock);
	ssize_t wrote = write(file.fd, entry, sizeof *entry);
	if (wrote == (ssize_t)sizeof *entry) {
		file.size += wrote;
	} else {
		error = wrote < 0 ? errno : ENOSPC;
		(void)!ftruncate(file.fd, file.size);
	}
	(void)pthread_mutex_unlock(&file.lock);
	return error;
}

int index_flush(struct indexed *part)
{
	if (part->bytes == part->told)
		return 0;
	struct index_entry entry = {
		.stream = part->stream,
		.length = (uint32_t)(part->bytes - part->told),
		.offset = part->told,
		.realtime_ns = part->pending_ns,
	};
	int error = append(&entry);
	part->stuck = error != 0;
	if (error == 0)
		part->told = part->bytes;
	uint64_t now = now_ns(CLOCK_MONOTONIC);
	part->paid_ns = (part->paid_ns > now ? part->paid_ns : now) + ENTRY_NS;
	return error;
}

int index_add(struct indexed *part, uint64_t bytes)
{
	if (part->bytes == part->told)
		part->pending_ns = now_ns(CLOCK_REALTIME);
	part->bytes += bytes;
	bool due = part->paid_ns <= now_ns(CLOCK_MONOTONIC) + SAVED_NS;
	return due || part->bytes - part->told > UINT32_MAX / 2 ? index_flush(part) : 0;
}

int index_patience(const struct indexed *part)
{
	return part->bytes > part->told && !part->stuck ? 1 : -1;
}

int index_sync(void)
{
	return file.size > 0 && fdatasync(file.fd) != 0 ? errno : 0;
}
