/* Who the workload is and what it may do. Every function runs in the workload's own process, in
 * its leaf, on its way to execve; system calls are made directly where the C library's wrapper
 * would change every thread (setresuid and its kin) or is missing. */
#define _GNU_SOURCE
#include "number.h"
#include "steps.h"
#include "sys.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { IO_WHO_PROCESS = 1, KEYRING_JOIN = 1 /* KEYCTL_JOIN_SESSION_KEYRING */, GROUPS_MAX = 65536 };

/* In the leaf already, so the namespace's root is the leaf: the job sees itself at "/". */
int identity_cgroup_namespace(const struct step *step)
{
	(void)step;
	return unshare(CLONE_NEWCGROUP);
}

/* A session of its own has no controlling terminal, so TIOCSTI reaches none (CVE-2017-5226), and
 * a keyring of its own does not show the starter's. A kernel without keys has none to show. */
int identity_session(const struct step *step)
{
	(void)step;
	if (setsid() < 0)
		return -1;
	if (syscall(SYS_keyctl, KEYRING_JOIN, NULL) < 0 && errno != ENOSYS)
		return -1;
	return 0;
}

/* Written while CAP_SYS_RESOURCE is held: that also sets the least value (oom_score_adj_min) that
 * the job could choose later without it; proc(5). */
int identity_oom_score(const struct step *step)
{
	char text[NUMBER_SIZE];
	size_t length = number_write(text, (int64_t)step->n[0]);
	int fd = tree_open_proc("self/oom_score_adj", O_WRONLY);
	if (fd < 0)
		return -1;
	ssize_t written = write(fd, text, length);
	int error = errno;
	(void)close(fd);
	errno = error;
	return written == (ssize_t)length ? 0 : -1;
}

/* What the starter had may be anything (nice, SCHED_BATCH, an io class); a job starts plain. */
int identity_scheduler(const struct step *step)
{
	struct sched_param plain = {.sched_priority = 0};
	(void)step;
	if (syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &plain) != 0)
		return -1;
	if (syscall(SYS_setpriority, PRIO_PROCESS, 0, 0) != 0)
		return -1;
	return syscall(SYS_ioprio_set, IO_WHO_PROCESS, 0, 0) == 0 || errno == ENOSYS ? 0 : -1;
}

int identity_rlimit(const struct step *step)
{
	struct {
		uint64_t soft, hard;
	} limit = {step->n[1], step->n[2]};
	return (int)syscall(SYS_prlimit64, 0, (int)step->n[0], &limit, NULL);
}

int identity_bounding(const struct step *step)
{
	for (int capability = 0; capability < 64; capability++) {
		if (step->n[0] & (uint64_t)1 << capability)
			continue;
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
			if (errno == EINVAL)
				break; /* past the last that this kernel knows */
			return -1;
		}
	}
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

int identity_groups(const struct step *step)
{
	static gid_t groups[GROUPS_MAX];
	if (step->numbers > GROUPS_MAX) {
		errno = EINVAL;
		return -1;
	}
	for (uint32_t i = 0; i < step->numbers; i++)
		groups[i] = (gid_t)step->n[i];
	return (int)syscall(SYS_setgroups, (size_t)step->numbers, groups);
}

int identity_user(const struct step *step)
{
	uid_t uid = (uid_t)step->n[0];
	gid_t gid = (gid_t)step->n[1];
	if (syscall(SYS_setresgid, gid, gid, gid) != 0)
		return -1;
	return (int)syscall(SYS_setresuid, uid, uid, uid);
}

/* After a change of user from root to somebody else the kernel has emptied the permitted set, so
 * only what is still there can be kept: the mask is what the policy grants to that user. */
int identity_capabilities(const struct step *step)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	struct __user_cap_data_struct data[2] = {
		{.permitted = (uint32_t)step->n[0], .effective = (uint32_t)step->n[0]},
		{.permitted = (uint32_t)(step->n[0] >> 32), .effective = (uint32_t)(step->n[0] >> 32)},
	};
	return (int)syscall(SYS_capset, &head, data);
}

int identity_no_new_privs(const struct step *step)
{
	(void)step;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* With the job's own rights, and with no descriptor of ours open: a link to /proc/self/fd in the
 * job's root leads to its own streams at most (CVE-2024-21626). */
int identity_cwd(const struct step *step)
{
	return chdir(step_string(step, 0));
}

int identity_umask(const struct step *step)
{
	(void)umask((mode_t)step->n[0]);
	return 0;
}
