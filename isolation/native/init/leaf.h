/* The job's cgroup, through the descriptors that the init was given. */
#ifndef JOBSUP_LEAF_H
#define JOBSUP_LEAF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* SIGKILL to every process in it, frozen or not; cgroup.kill in cgroup-v2.rst. */
int leaf_kill(void);

/* Freeze every process in it, or let them go on; cgroup.freeze. It takes effect some time later. */
int leaf_freeze(bool frozen);

/* Whether all are frozen now, by its cgroup.events behind `fd`, whose next change is told by POLLPRI
 * from here on; -1: the leaf is gone. */
int leaf_is_frozen(int fd);

/* Wait until no process is in it, killing again each second; -1 when `seconds` were not enough. */
int leaf_wait_empty(int seconds);

/* Remove it, trying again for a short while when the kernel still counts something in it. */
int leaf_remove(const char *name);

/* CPU time of all its processes so far, in microseconds; -1 when there is no cpu.stat. */
int64_t leaf_cpu_usec(void);

/* A file of it into `buffer`; the bytes read, or -1. */
ssize_t leaf_read(const char *file, char *buffer, size_t size);

/* A descriptor of one of its files, for poll. */
int leaf_open(const char *file);

#endif
