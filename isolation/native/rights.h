/* Looking at files with another user's rights, in the calling thread alone: raw system calls, since
 * the C library's would change every thread of the process (nptl(7)).
 *
 * The file system ids and groups are the user's, and no capability is in effect: CAP_DAC_* would
 * pass every directory, and CAP_SYS_PTRACE the links of /proc that lead into others' processes.
 * Both stay permitted, so that the way back is open. */
#ifndef JOBSUP_RIGHTS_H
#define JOBSUP_RIGHTS_H

#include <errno.h>
#include <linux/capability.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

struct rights {
	uint32_t uid, gid;
	const uint32_t *groups;
	size_t count;
};

/* What a thread had before. */
struct rights_before {
	struct __user_cap_data_struct capabilities[2];
	uint32_t uid, gid;
};

static inline int rights_capset(const struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	return (int)syscall(SYS_capset, &head, data);
}

/* setfsuid(2) and setfsgid(2) say nothing of a failure: asked once more for what cannot be, they
 * tell what is. */
static inline int rights_ids(uint32_t uid, uint32_t gid)
{
	(void)syscall(SYS_setfsgid, gid);
	(void)syscall(SYS_setfsuid, uid);
	if ((uint32_t)syscall(SYS_setfsgid, -1) == gid && (uint32_t)syscall(SYS_setfsuid, -1) == uid)
		return 0;
	errno = EPERM;
	return -1;
}

/* -1 with errno: the thread has what it had, or cannot get it back (rights_give_back tells). */
static inline int rights_take(const struct rights *rights, struct rights_before *before)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	if (syscall(SYS_capget, &head, before->capabilities) != 0)
		return -1;
	before->uid = (uint32_t)syscall(SYS_setfsuid, -1);
	before->gid = (uint32_t)syscall(SYS_setfsgid, -1);
	if (syscall(SYS_setgroups, rights->count, rights->groups) != 0 ||
	    rights_ids(rights->uid, rights->gid) != 0)
		return -1;
	struct __user_cap_data_struct none[2] = {before->capabilities[0], before->capabilities[1]};
	none[0].effective = none[1].effective = 0;
	return rights_capset(none);
}

/* Back to `before` and the groups that the thread had. */
static inline int rights_give_back(const struct rights_before *before, const uint32_t *groups,
                                   size_t count)
{
	if (rights_capset(before->capabilities) != 0 || rights_ids(before->uid, before->gid) != 0 ||
	    syscall(SYS_setgroups, count, groups) != 0)
		return -1;
	/* A change of fsuid from or to 0 changes the effective set as well. */
	return rights_capset(before->capabilities);
}

#endif
