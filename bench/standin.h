/* Included before everything else in a bench-only build of the shim and the init: with the flag
 * gone, clone3 starts a process in the cgroup of whoever calls it, so that the rest of a launch can
 * be measured where cgroup v2 cannot be had. Nothing of the host's cgroups is touched. */
#include <linux/sched.h>
#undef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0
