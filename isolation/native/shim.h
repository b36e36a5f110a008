/* The door of the compiled module: starting an init, and looking at files as another user. */
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

/* What a thread had before: struct rights_before of rights.h. */
struct rights_kept {
	uint32_t words[8];
};

/* From here on the calling thread, and no other, looks at files as this user and without
 * capabilities. 0, or an errno: then it has what it had. `own` are the groups that it has. */
int jobsup_take_rights(uint32_t uid, uint32_t gid, const uint32_t *groups, int count,
                       struct rights_kept *kept, const uint32_t *own, int own_count);

/* The way back: 0, or an errno with which the thread must not go on. */
int jobsup_give_back_rights(const struct rights_kept *kept, const uint32_t *own, int own_count);

#endif
