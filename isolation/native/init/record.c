#define _GNU_SOURCE
#include "record.h"
#include "leaf.h"
#include "number.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h> /* renameat */
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Every file of the leaf that a verdict may want; one that this kernel lacks is left out. */
static const char *const counters[] = {
	"memory.events", "memory.peak", "memory.swap.peak", "memory.swap.events", "cpu.stat",
	"io.stat", "pids.events", "pids.peak", "cpu.pressure", "memory.pressure", "io.pressure",
};

struct record_head record_head = {
	.magic = RECORD_MAGIC,
	.version = RECORD_VERSION,
	.failed_step = -1,
};

/* What nearly every record fits in. */
enum { RESERVE = 16 * 1024 };

static int reserved = -1;
static char body[RECORD_MAX - sizeof(struct record_head)];
static size_t used;
static char sample[4096];
static size_t sample_length;
static uint64_t sampled; /* memory.current at the sample */

static void add_section(const char *name, const char *content, uint32_t length)
{
	uint32_t lengths[2] = {(uint32_t)strlen(name), length};
	if (sizeof body - used < sizeof lengths + lengths[0] + lengths[1])
		return; /* an io.stat of thousands of disks: a fact less, never a broken record */
	memcpy(body + used, lengths, sizeof lengths);
	used += sizeof lengths;
	memcpy(body + used, name, lengths[0]);
	used += lengths[0];
	memcpy(body + used, content, lengths[1]);
	used += lengths[1];
	record_head.sections++;
}

/* The sample of the most memory is kept: the last event of a kill comes when all is freed. */
void record_sample_memory(void)
{
	char text[sizeof sample];
	ssize_t length = leaf_read("memory.current", text, sizeof text - 1);
	if (length <= 0)
		return;
	text[length] = '\0';
	uint64_t current = number_read(text);
	if (current < sampled || (length = leaf_read("memory.stat", text, sizeof text)) <= 0)
		return;
	sampled = current;
	memcpy(sample, text, (size_t)length);
	sample_length = (size_t)length;
}

void record_collect(void)
{
	static char text[16384];
	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++) {
		ssize_t length = leaf_read(counters[i], text, sizeof text);
		if (length == (ssize_t)sizeof text) /* cut off: half a line would be a wrong number */
			while (length > 0 && text[length - 1] != '\n')
				length--;
		if (length >= 0)
			add_section(counters[i], text, (uint32_t)length);
	}
	if (sample_length > 0)
		add_section("memory.stat", sample, (uint32_t)sample_length);
}

static int open_new(void)
{
	return openat(SLOT_SPOOL, "exit.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

void record_reserve(void)
{
	reserved = open_new();
	if (reserved >= 0)
		(void)fallocate(reserved, 0, 0, RESERVE);
}

/* -1 with errno; fewer bytes than there are is a full disk. */
static int write_whole(int fd)
{
	struct iovec parts[2] = {{&record_head, sizeof record_head}, {body, used}};
	ssize_t wrote = writev(fd, parts, 2);
	if (wrote >= 0 && wrote != (ssize_t)record_head.size)
		errno = ENOSPC;
	if (wrote != (ssize_t)record_head.size)
		return -1;
	return ftruncate(fd, (off_t)record_head.size) == 0 && fsync(fd) == 0 ? 0 : -1;
}

int record_store(void)
{
	record_head.size = (uint32_t)(sizeof record_head + used);
	int fd = reserved >= 0 ? reserved : open_new();
	if (fd < 0 || write_whole(fd) != 0)
		return -1; /* the descriptor goes with the init */
	(void)close(fd);
	return renameat(SLOT_SPOOL, "exit.new", SLOT_SPOOL, "exit") == 0 && fsync(SLOT_SPOOL) == 0 ? 0 : -1;
}

int record_send(void)
{
	record_head.size = (uint32_t)(sizeof record_head + used);
	struct message_head head = {.type = MESSAGE_RECORD, .size = record_head.size};
	struct iovec parts[3] = {
		{&head, sizeof head}, {&record_head, sizeof record_head}, {body, used}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
	return sendmsg(SLOT_CONTROL, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -1 : 0;
}
