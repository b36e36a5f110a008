#define _GNU_SOURCE
#include "output.h"
#include "index.h"
#include "sys.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

enum { CHUNK = 256 * 1024, STACK_SIZE = 16 * 1024 };

struct stream {
	int source;  /* read end of the job's pipe; -1: the reader has gone, the job gets SIGPIPE */
	int sink;    /* the reader's descriptor or the spool's file; -1: nobody wants it */
	uint64_t bytes, lost;
	struct indexed index; /* of a kept job */
	bool started;
	bool splices; /* the sink has not refused splice(2) so far */
	pthread_t thread;
	char *buffer; /* CHUNK bytes */
};

/* Memory only once a stream is read that cannot be spliced. */
static char buffers[2][CHUNK];

static struct {
	struct stream streams[2];
	bool kept;     /* in the spool; otherwise a reader has it */
	int last_call; /* eventfd, readable once no writer is left; both threads poll it */
	int event;
	enum when_full when_full;
	uint64_t cap;
	_Atomic uint64_t accepted; /* bytes of both streams that count against the cap */
	_Atomic int running;
	_Atomic int error; /* errno of the first sink that failed, the reader's going included */
	atomic_bool over;
	atomic_bool given_up; /* what has not been taken yet is lost */
} output = {.last_call = -1};

bool output_is_kept(const struct plan_head *head)
{
	return plan_has_slot(head, SLOT_SPOOL) && !plan_has_slot(head, SLOT_STDOUT) &&
	       !plan_has_slot(head, SLOT_STDERR);
}

/* Only ever a new file: no second init can go on in the spool of a first one. */
static int open_kept(const char *name)
{
	return openat(SLOT_SPOOL, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
}

/* Of a file that both streams write (`> file 2>&1`) write(2) locks the position; splice(2) does not,
 * and they would overwrite each other. */
static bool is_regular(int fd)
{
	struct stat status;
	return fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

int output_open(const struct plan_head *head, int ends[2])
{
	int pipes[2];
	bool kept = output_is_kept(head);
	int index = kept ? open_kept("output.index") : -1;
	output.kept = kept;
	output.cap = head->output_max;
	output.when_full = (enum when_full)head->when_full;
	output.last_call = eventfd(0, EFD_CLOEXEC);
	if (output.last_call < 0 || (kept && index < 0))
		return -1;
	index_begin(index);
	/* stdout comes last: who sees that it is there (a follower) looks once for the others. */
	int errors = kept && !head->merge ? open_kept("stderr") : -1;
	if (kept && !head->merge && errors < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		struct stream *stream = &output.streams[i];
		enum slot slot = i == 0 ? SLOT_STDOUT : SLOT_STDERR;
		stream->source = stream->sink = -1;
		if (i == 1 && head->merge) {
			ends[1] = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
			return ends[1] < 0 ? -1 : 0;
		}
		if (pipe2(pipes, O_CLOEXEC) != 0)
			return -1;
		stream->index.stream = i == 0 ? INDEX_STDOUT : INDEX_STDERR;
		stream->buffer = buffers[i];
		stream->source = pipes[0];
		/* Somebody outside who has the write end (/proc/PID/fd of the same user's) may read what was
		 * counted: nobody may wait for that. */
		if (fcntl(pipes[0], F_SETFL, O_NONBLOCK) != 0)
			return -1;
		/* A third more bytes a second than with 64 KiB; who fills it is charged for it. */
		if (kept)
			(void)fcntl(pipes[0], F_SETPIPE_SZ, CHUNK);
		ends[i] = pipes[1];
		if (kept)
			stream->sink = i == 0 ? open_kept("stdout") : errors;
		else
			stream->sink = plan_has_slot(head, slot) ? (int)slot : -1;
		if (kept && stream->sink < 0)
			return -1;
		stream->splices = !kept && !is_regular(stream->sink);
	}
	return 0;
}

/* How many of `available` bytes the cap still lets through. Both streams share it. */
static size_t accept_bytes(size_t available)
{
	if (output.cap == UINT64_MAX)
		return available;
	uint64_t accepted = atomic_load(&output.accepted), granted;
	do {
		uint64_t left = output.cap > accepted ? output.cap - accepted : 0;
		granted = available < left ? available : left;
	} while (!atomic_compare_exchange_weak(&output.accepted, &accepted, accepted + granted));
	return (size_t)granted;
}

static void tell_main(void)
{
	uint64_t one = 1;
	(void)!write(output.event, &one, sizeof one);
}

static size_t available(const struct stream *stream)
{
	int bytes = 0;
	return ioctl(stream->source, FIONREAD, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

/* Read and count as lost: what is beyond the cap, or has nobody to take it. */
static void discard(struct stream *stream, size_t length)
{
	while (length > 0) {
		ssize_t got = read(stream->source, stream->buffer, length < CHUNK ? length : CHUNK);
		if (got <= 0)
			return;
		stream->lost += (uint64_t)got;
		length -= (size_t)got;
	}
}

/* Write all of it, waiting where the reader made its descriptor non-blocking; -1 with errno. */
static int write_all(int fd, const char *bytes, size_t length, uint64_t *delivered)
{
	while (length > 0) {
		ssize_t wrote = write(fd, bytes, length);
		if (wrote < 0 && errno == EAGAIN)
			(void)poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		if (wrote < 0 && (errno == EAGAIN || errno == EINTR) && !atomic_load(&output.given_up))
			continue;
		if (wrote < 0)
			return -1;
		*delivered += (uint64_t)wrote;
		bytes += wrote;
		length -= (size_t)wrote;
	}
	return 0;
}

/* With errno, or 0 when it did not. */
static void failed(int error)
{
	int none = 0;
	(void)atomic_compare_exchange_strong(&output.error, &none, error);
}

/* Move up to `length` bytes that are known to be in the pipe. -1: the sink takes no more. */
static int deliver(struct stream *stream, size_t length)
{
	if (stream->splices) {
		ssize_t moved = splice(stream->source, NULL, stream->sink, NULL, length, SPLICE_F_MOVE);
		if (moved >= 0) {
			stream->bytes += (uint64_t)moved;
			return 0;
		}
		if (errno == EAGAIN) { /* the reader's end is non-blocking, and full */
			(void)poll(&(struct pollfd){.fd = stream->sink, .events = POLLOUT}, 1, -1);
			return 0;
		}
		if (errno == EINTR)
			return 0;
		if (errno != EINVAL)
			return -1;
		stream->splices = false; /* a terminal, or a file opened to append */
	}
	ssize_t got = read(stream->source, stream->buffer, length < CHUNK ? length : CHUNK);
	if (got <= 0)
		return 0;
	uint64_t before = stream->bytes;
	int result = write_all(stream->sink, stream->buffer, (size_t)got, &stream->bytes);
	int error = errno;
	stream->lost += (uint64_t)got - (stream->bytes - before);
	if (output.kept && stream->bytes > before)
		failed(index_add(&stream->index, stream->bytes - before));
	errno = error;
	return result;
}

/* The sink failed. In the foreground it takes the pipe with it, so that the job is told by SIGPIPE;
 * a kept job goes on, and what its full or broken disk did not take is counted. */
static void sink_failed(struct stream *stream, int error)
{
	failed(error);
	if (output.kept)
		return;
	discard(stream, available(stream));
	(void)close(stream->source);
	stream->source = -1;
}

/* At the cap; false when the stream is not to be read any more. */
static bool at_cap(struct stream *stream, size_t length)
{
	switch (output.when_full) {
	case FULL_BLOCK:
		return false;
	case FULL_KILL:
		if (!atomic_exchange(&output.over, true))
			tell_main();
		break;
	case FULL_DROP:
		break;
	}
	discard(stream, length);
	return true;
}

/* One chunk of up to `most` bytes; false when the stream is done or is to be left alone until the
 * last call. */
static bool pass_on(struct stream *stream, size_t most)
{
	size_t length = available(stream);
	if (length == 0)
		return false; /* readable without a byte: every writer has closed */
	if (length > most)
		length = most;
	if (stream->sink < 0) {
		discard(stream, length);
		return true;
	}
	size_t granted = accept_bytes(length);
	if (granted == 0)
		return at_cap(stream, length);
	uint64_t before = stream->bytes + stream->lost;
	int result = deliver(stream, granted), error = errno;
	/* What was granted and not read yet counts again next time. */
	if (output.cap != UINT64_MAX)
		atomic_fetch_sub(&output.accepted, granted - (stream->bytes + stream->lost - before));
	if (result != 0 && !atomic_load(&output.given_up))
		sink_failed(stream, error);
	return stream->source >= 0;
}

static void wait_last_call(void)
{
	(void)poll(&(struct pollfd){.fd = output.last_call, .events = POLLIN}, 1, -1);
}

/* After the last call: what is in the pipe now is all that the job wrote. More would come from a
 * write end that it passed to somebody outside, who could keep its end waiting. */
static void take_rest(struct stream *stream)
{
	uint64_t end = stream->bytes + stream->lost + available(stream), taken;
	while (stream->source >= 0 && (taken = stream->bytes + stream->lost) < end) {
		if (atomic_load(&output.given_up) || !pass_on(stream, (size_t)(end - taken))) {
			discard(stream, (size_t)(end - stream->bytes - stream->lost));
			return;
		}
	}
}

/* Until EOF or the last call. */
static void *run_stream(void *argument)
{
	struct stream *stream = argument;
	struct pollfd events[2] = {
		{.fd = stream->source, .events = POLLIN},
		{.fd = output.last_call, .events = POLLIN},
	};
	do {
		int count = poll(events, 2, index_patience(&stream->index));
		if (count < 0 && errno != EINTR)
			break;
		if (count == 0)
			failed(index_flush(&stream->index));
	} while (events[1].revents == 0 && (events[0].revents == 0 || pass_on(stream, SIZE_MAX)));
	failed(index_flush(&stream->index)); /* what is blocked at the cap may be so for long */

	if (stream->source >= 0) {
		if (available(stream) > 0) {
			wait_last_call(); /* FULL_BLOCK: it stays in the pipe while the job lives */
			take_rest(stream);
		}
		if (stream->source >= 0)
			(void)close(stream->source);
		failed(index_flush(&stream->index));
	}
	if (!output.kept && stream->sink >= 0)
		(void)close(stream->sink); /* the reader sees its EOF */
	atomic_fetch_sub(&output.running, 1);
	tell_main();
	return NULL;
}

int output_start(int event)
{
	pthread_attr_t attributes;
	int error = pthread_attr_init(&attributes);
	if (error == 0)
		error = pthread_attr_setstacksize(&attributes, STACK_SIZE);
	output.event = event;
	for (int i = 0; i < 2 && error == 0; i++) {
		struct stream *stream = &output.streams[i];
		if (stream->source < 0)
			continue; /* merged into the other */
		error = pthread_create(&stream->thread, &attributes, run_stream, stream);
		stream->started = error == 0;
		if (stream->started)
			atomic_fetch_add(&output.running, 1);
	}
	errno = error;
	return error == 0 ? 0 : -1;
}

void output_last_call(void)
{
	uint64_t one = 1;
	(void)!write(output.last_call, &one, sizeof one);
}

static void interrupted(int number)
{
	(void)number;
}

/* A thread that sleeps in splice or write has moved bytes that only it can count, so it is woken
 * by a signal. One that came a moment before the sleep is lost: another follows. No process of the
 * job is left that could send this signal before there is a handler for it. */
void output_give_up(void)
{
	struct sigaction action = {.sa_handler = interrupted};
	(void)sigaction(SIGUSR1, &action, NULL);
	atomic_store(&output.given_up, true);
	for (int tries = 0; tries < 200 && !output_ended(); tries++) {
		for (int i = 0; i < 2; i++)
			if (output.streams[i].started)
				(void)pthread_kill(output.streams[i].thread, SIGUSR1);
		(void)nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
}

bool output_ended(void)
{
	return atomic_load(&output.running) == 0;
}

bool output_over_cap(void)
{
	return atomic_load(&output.over);
}

struct output_totals output_close(void)
{
	struct output_totals totals = {0};
	bool ended = output_ended();
	for (int i = 0; i < 2; i++) {
		struct stream *stream = &output.streams[i];
		if (stream->started && ended)
			(void)pthread_join(stream->thread, NULL);
		else if (stream->started && stream->source >= 0)
			totals.lost_bytes += available(stream);
		/* What is empty has nothing to lose; that it is there is synced with its directory. */
		if (output.kept && stream->bytes > 0 && fdatasync(stream->sink) != 0)
			failed(errno);
		*(i == 0 ? &totals.stdout_bytes : &totals.stderr_bytes) = stream->bytes;
		totals.lost_bytes += stream->lost;
	}
	failed(index_sync());
	totals.error = atomic_load(&output.error);
	return totals;
}
