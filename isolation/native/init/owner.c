/* The owner of a job who is not root: what they name is looked at with their rights. Before any
 * thread is there, so that the process is the one thread that changes. */
#define _GNU_SOURCE
#include "owner.h"
#include "../rights.h"

#include <errno.h>
#include <sys/prctl.h>

enum { GROUPS_MAX = 65536 };

static struct {
	struct rights rights;
	struct rights_before before;
	uint32_t own[GROUPS_MAX]; /* our own groups; memory only as far as there are any */
	size_t own_count;
} owner;

int owner_remember(const struct step *step)
{
	static uint32_t groups[GROUPS_MAX];
	if (step->numbers - 2 > GROUPS_MAX) {
		errno = EINVAL;
		return -1;
	}
	for (uint32_t i = 2; i < step->numbers; i++)
		groups[i - 2] = (uint32_t)step->n[i];
	owner.rights = (struct rights){
		(uint32_t)step->n[0], (uint32_t)step->n[1], groups, step->numbers - 2};
	long count = syscall(SYS_getgroups, GROUPS_MAX, owner.own);
	owner.own_count = count < 0 ? 0 : (size_t)count;
	return count < 0 ? -1 : 0;
}

int owner_begin(void)
{
	if (rights_take(&owner.rights, &owner.before) == 0)
		return 0;
	(void)owner_end();
	return -1;
}

int owner_end(void)
{
	int error = errno;
	int result = rights_give_back(&owner.before, owner.own, owner.own_count);
	/* A change of ids sets it to what fs.suid_dumpable says. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		result = -1;
	if (result == 0)
		errno = error;
	return result;
}
