/* The steps of a plan, as functions: each returns 0, or -1 with errno set. */
#ifndef JOBSUP_STEPS_H
#define JOBSUP_STEPS_H

#include "plan.h"

/* Where a run of steps stopped and why. */
struct failure {
	int32_t step; /* its index in the plan; -1: no failure */
	int32_t error; /* errno */
	int32_t interpreter; /* STEP_EXEC: the file is there, its interpreter is not */
	uint32_t op; /* enum step_op */
};

/* Execute steps from the one after `cursor`, up to and without `until` (a step_op) or the end.
 * -1 with `failure` filled at the first that fails; `cursor` is left on the last step seen. */
int steps_run(const struct plan *plan, struct step *cursor, uint32_t until, struct failure *failure);

/* tree.c: what the job sees as its files. */
int tree_private_mounts(const struct step *step);
int tree_root(const struct step *step);
int tree_detach(const struct step *step);
int tree_mount(const struct step *step);
int tree_bind(const struct step *step);
int tree_make_dir(const struct step *step);
int tree_device(const struct step *step);
int tree_symlink(const struct step *step);
int tree_read_only(const struct step *step);
int tree_seal(const struct step *step);
int tree_mask(const struct step *step);
int tree_pivot(const struct step *step);
int tree_open_proc(const char *path, int flags); /* a file of the job's real procfs */

/* owner.c */
int owner_remember(const struct step *step);

/* network.c */
int network_hostname(const struct step *step);
int network_loopback(const struct step *step);

/* identity.c: who the workload is; only ever called in the workload's own process. */
int identity_cgroup_namespace(const struct step *step);
int identity_session(const struct step *step);
int identity_oom_score(const struct step *step);
int identity_scheduler(const struct step *step);
int identity_rlimit(const struct step *step);
int identity_bounding(const struct step *step);
int identity_groups(const struct step *step);
int identity_user(const struct step *step);
int identity_capabilities(const struct step *step);
int identity_no_new_privs(const struct step *step);
int identity_cwd(const struct step *step);
int identity_umask(const struct step *step);

/* workload.c */
int workload_streams(const struct step *step);
int workload_exec(const struct step *step);

#endif
