/* The door of the compiled module: one call that starts an init. */
#ifndef JOBSUP_SHIM_H
#define JOBSUP_SHIM_H

#include "abi.h"

/* Where a start failed, for the message. */
enum spawn_stage { SPAWN_CLONE = 1, SPAWN_DESCRIPTORS = 2, SPAWN_EXEC = 3 };

struct spawn_result {
	int pid;   /* -1 when the init was not started */
	int pidfd; /* owned by the caller */
	int error; /* errno */
	int stage; /* enum spawn_stage */
};

/* Start the program behind `program` as an init: in the cgroup `cgroup`, in new namespaces `flags`
 * (CLONE_NEW*), with slots[i] as descriptor i (-1: closed) and nothing else open. */
struct spawn_result jobsup_spawn(int program, int cgroup, uint64_t flags, const int *slots, int count);

#endif
