/* The table of contents of a job: which function does which step. */
#include "steps.h"

#include <errno.h>
#include <stddef.h>

static int (*const functions[STEP_END])(const struct step *) = {
	[STEP_PRIVATE_MOUNTS] = tree_private_mounts,
	[STEP_ROOT] = tree_root,
	[STEP_DETACH] = tree_detach,
	[STEP_MOUNT] = tree_mount,
	[STEP_BIND] = tree_bind,
	[STEP_MAKE_DIR] = tree_make_dir,
	[STEP_DEVICE] = tree_device,
	[STEP_SYMLINK] = tree_symlink,
	[STEP_READ_ONLY] = tree_read_only,
	[STEP_SEAL] = tree_seal,
	[STEP_MASK] = tree_mask,
	[STEP_PIVOT] = tree_pivot,
	[STEP_HOSTNAME] = network_hostname,
	[STEP_LOOPBACK] = network_loopback,
	[STEP_CGROUP_NAMESPACE] = identity_cgroup_namespace,
	[STEP_SESSION] = identity_session,
	[STEP_OOM_SCORE] = identity_oom_score,
	[STEP_SCHEDULER] = identity_scheduler,
	[STEP_RLIMIT] = identity_rlimit,
	[STEP_STREAMS] = workload_streams,
	[STEP_BOUNDING] = identity_bounding,
	[STEP_GROUPS] = identity_groups,
	[STEP_USER] = identity_user,
	[STEP_CAPABILITIES] = identity_capabilities,
	[STEP_NO_NEW_PRIVS] = identity_no_new_privs,
	[STEP_CWD] = identity_cwd,
	[STEP_UMASK] = identity_umask,
	[STEP_EXEC] = workload_exec,
	[STEP_OWNER] = owner_remember,
};

int steps_run(const struct plan *plan, struct step *cursor, uint32_t until, struct failure *failure)
{
	while (plan_next(plan, cursor) && cursor->op != until) {
		int (*function)(const struct step *) = functions[cursor->op];
		errno = ENOSYS; /* a step_op without a function */
		if (function == NULL || function(cursor) != 0) {
			failure->step = (int32_t)cursor->index;
			failure->error = errno;
			failure->op = cursor->op;
			if (cursor->op == STEP_EXEC && failure->error == ELIBBAD) {
				failure->interpreter = 1;
				failure->error = ENOENT; /* what execve said */
			}
			return -1;
		}
	}
	return 0;
}
