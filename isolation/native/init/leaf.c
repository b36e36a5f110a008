#define _GNU_SOURCE
#include "leaf.h"
#include "../abi.h"
#include "number.h"
#include "sys.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

int leaf_open(const char *file)
{
	return openat(SLOT_LEAF, file, O_RDONLY | O_CLOEXEC);
}

ssize_t leaf_read(const char *file, char *buffer, size_t size)
{
	int fd = leaf_open(file);
	if (fd < 0)
		return -1;
	size_t length = 0;
	ssize_t got = 0;
	while (length < size && (got = read(fd, buffer + length, size - length)) > 0)
		length += (size_t)got;
	(void)close(fd);
	return got < 0 ? -1 : (ssize_t)length;
}

static int put(const char *file, const char *digit)
{
	int fd = openat(SLOT_LEAF, file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t written = write(fd, digit, 1);
	(void)close(fd);
	return written == 1 ? 0 : -1;
}

int leaf_kill(void)
{
	return put("cgroup.kill", "1");
}

int leaf_freeze(bool frozen)
{
	return put("cgroup.freeze", frozen ? "1" : "0");
}

int leaf_is_frozen(int fd)
{
	char text[256];
	ssize_t length = pread(fd, text, sizeof text - 1, 0);
	if (length < 0)
		return -1;
	text[length] = '\0';
	return strstr(text, "frozen 1\n") != NULL;
}

/* The value of `key` in a file of "key value" lines; -1 without it. */
static int64_t keyed(const char *file, const char *key)
{
	char text[4096];
	ssize_t length = leaf_read(file, text, sizeof text - 1);
	if (length < 0)
		return -1;
	text[length] = '\0';
	size_t width = strlen(key);
	for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, width) == 0 && line[width] == ' ')
			return (int64_t)number_read(line + width + 1);
	}
	return -1;
}

int64_t leaf_cpu_usec(void)
{
	return keyed("cpu.stat", "usage_usec");
}

/* Reading through `fd` also arms its POLLPRI: kernfs tells of changes since the last read. */
static bool populated(int fd)
{
	char text[256];
	ssize_t length = pread(fd, text, sizeof text - 1, 0);
	if (length < 0)
		return false; /* ENODEV: the starter, giving the job up, has removed the leaf */
	text[length] = '\0';
	return strstr(text, "populated 0\n") == NULL;
}

int leaf_wait_empty(int seconds)
{
	int fd = leaf_open("cgroup.events");
	if (fd < 0)
		return errno == ENOENT || errno == ENODEV ? 0 : -1; /* it is gone */
	struct pollfd change = {.fd = fd, .events = POLLPRI};
	bool alive;
	while ((alive = populated(fd)) && seconds > 0) {
		if (poll(&change, 1, 1000) == 0) {
			/* A process in an uninterruptible sleep dies when it wakes, which may take as
			 * long as a disk takes. */
			seconds--;
			(void)leaf_kill();
		}
	}
	(void)close(fd);
	return alive ? -1 : 0;
}

int leaf_remove(const char *name)
{
	for (int tries = 0; tries < 50; tries++) {
		if (unlinkat(SLOT_JOBS, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY)
			return -1;
		/* Unpopulated, but a last task is still on its way out of the kernel's lists. Nothing
		 * tells when it has gone. */
		(void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
	return -1;
}
