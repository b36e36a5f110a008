/* output.index of a kept job: of which stream bytes came, how many, and when; both streams' in the
 * order in which they came. Each stream's thread tells of its own. */
#ifndef JOBSUP_INDEX_H
#define JOBSUP_INDEX_H

#include <stdbool.h>
#include <stdint.h>

/* One stream's part. All zero but for `stream` at the beginning. */
struct indexed {
	uint32_t stream;     /* INDEX_STDOUT, INDEX_STDERR */
	uint64_t bytes;      /* in its file */
	uint64_t told;       /* of these by entries; the others wait for theirs */
	uint64_t pending_ns; /* CLOCK_REALTIME when the first of the others was written */
	uint64_t paid_ns;    /* CLOCK_MONOTONIC up to which entries are used up */
	bool stuck;          /* the file takes no more; tried again with the next bytes */
};

/* The file to write to; empty. */
void index_begin(int fd);

/* So many bytes more are in the stream's file: told of now, or together with those that come next.
 * 0, or errno. */
int index_add(struct indexed *part, uint64_t bytes);

/* Tell of all that waits. 0, or errno: it goes on waiting. */
int index_flush(struct indexed *part);

/* How many milliseconds the next bytes may be waited for before index_flush; -1: without end. */
int index_patience(const struct indexed *part);

/* 0 when all of it is on disk, or errno. */
int index_sync(void);

#endif
