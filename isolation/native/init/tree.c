/* Building the job's file tree.
 *
 * Theory of operation. The init begins in a copy of the host's mounts. It clones the host
 * directory that is to be the job's root as a tree of its own (open_tree), makes that read-only,
 * and mounts it over "/": hidden below it the host's files stay reachable by absolute path, since
 * the process's root directory is still the old one. So every *source* is an absolute path in the
 * host, and every *target* is resolved from the new tree's descriptor with RESOLVE_IN_ROOT and
 * without magic links: a symbolic link planted in a user's root can lead nowhere else
 * (CVE-2021-30465). Mounts are made detached and moved onto a descriptor, never onto a path that
 * could change in between. pivot_root then makes the tree "/" and drops the host's.
 */
#define _GNU_SOURCE
#include "owner.h"
#include "steps.h"
#include "sys.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* How things are found, in the last number of STEP_ROOT, STEP_MOUNT and STEP_BIND. */
enum {
	TARGET_CREATE = 1,   /* make what is missing of it */
	TARGET_NO_LINKS = 2, /* /proc as a symbolic link in a user's root is refused (CVE-2023-27561) */
	TARGET_OPTIONAL = 4, /* a root without it is fine */
	OF_OWNER = 8,        /* source and target are found, and made, with the owner's rights */
};

static struct {
	int root; /* the job's root directory */
	int proc; /* its procfs, so that set-up writes land on the real one (CVE-2025-52881) */
	int mask; /* a read-only tmpfs that holds an empty, unreadable "file" and "dir" */
} tree = {-1, -1, -1};

/* Close without losing the errno of what failed before. */
static int closing(int fd, int result)
{
	int error = errno;
	(void)close(fd);
	errno = error;
	return result;
}

static const char *relative(const char *path)
{
	while (*path == '/')
		path++;
	return *path == '\0' ? "." : path;
}

static int resolve(const char *path, uint64_t flags, uint64_t more_rules)
{
	uint64_t rules = RESOLVE_ROOTED | RESOLVE_MAGICLESS | more_rules;
	int fd = -1;
	/* EAGAIN: something was renamed or mounted meanwhile, and the walk could not be proven. */
	for (int tries = 0; tries < 100; tries++) {
		fd = sys_openat2(tree.root, relative(path), flags | O_CLOEXEC, rules);
		if (fd >= 0 || errno != EAGAIN)
			break;
	}
	return fd;
}

/* The directory that holds `path`, and in `name` the last part of it. */
static int resolve_parent(const char *path, uint64_t more_rules, const char **name)
{
	char parent[PATH_MAX];
	path = relative(path);
	const char *slash = strrchr(path, '/');
	*name = slash == NULL ? path : slash + 1;
	size_t length = slash == NULL ? 0 : (size_t)(slash - path);
	if (length >= sizeof parent) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(parent, path, length);
	parent[length] = '\0';
	return resolve(parent, O_PATH | O_DIRECTORY, more_rules);
}

/* Make what is missing of `path`, the last part as a file or a directory. */
static int create_target(const char *path, int directory, uint64_t rules)
{
	char part[PATH_MAX];
	size_t length = strlen(path);
	if (length >= sizeof part) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		const char *name;
		int parent = resolve_parent(part, rules, &name);
		if (parent < 0)
			return -1;
		int last = path[i] == '\0';
		int made = last && !directory ? mknodat(parent, name, S_IFREG | 0644, 0)
		                              : mkdirat(parent, name, 0755);
		if (closing(parent, made) != 0 && errno != EEXIST)
			return -1;
	}
	return 0;
}

/* Around a look at the host's or the job's files that is the owner's: what it gave, or -1. */
static int begin(uint64_t how)
{
	return how & OF_OWNER ? owner_begin() : 0;
}

static int end(uint64_t how, int result)
{
	return how & OF_OWNER && owner_end() != 0 ? -1 : result;
}

/* In an owner's target no link is followed (rootfs.py has resolved those that there were): what they
 * mount first could otherwise lead what they mount next to where we, and not they, may make files, or
 * past what is hidden. */
static int resolve_target(const char *path, uint64_t how, int directory)
{
	uint64_t rules = how & (TARGET_NO_LINKS | OF_OWNER) ? RESOLVE_LINKLESS : 0;
	if (begin(how) != 0)
		return -1;
	int fd = end(how, resolve(path, O_PATH, rules));
	if (fd >= 0 || errno != ENOENT || !(how & TARGET_CREATE))
		return fd;
	if (begin(how) != 0 || end(how, create_target(path, directory, rules)) != 0 || begin(how) != 0)
		return -1;
	return end(how, resolve(path, O_PATH, rules));
}

/* A clone of what is at `path` of the host, with all that is mounted below it. An owner's path has
 * no links in it any more (rootfs.py): one that is there now was put there since, to lead somewhere
 * else, perhaps through our own /proc/self/fd. */
static int open_source(const char *path, uint64_t how)
{
	if (!(how & OF_OWNER))
		return sys_open_tree(AT_FDCWD, path, TREE_CLONE | TREE_CLOEXEC | AT_RECURSIVE);
	if (begin(how) != 0)
		return -1;
	int found = end(how, sys_openat2(AT_FDCWD, path, O_PATH | O_CLOEXEC, RESOLVE_LINKLESS));
	if (found < 0)
		return -1;
	return closing(found, sys_open_tree(found, "", TREE_CLONE | TREE_CLOEXEC | AT_RECURSIVE |
	                                    AT_EMPTY_PATH));
}

/* Move the detached mount `mount` onto `path`; the mount's descriptor stays the caller's. */
static int attach(int mount, const char *path, uint64_t how, int directory)
{
	struct stat status;
	int target = resolve_target(path, how, directory);
	if (target < 0)
		return errno == ENOENT && how & TARGET_OPTIONAL ? 0 : -1;
	if (fstat(target, &status) != 0)
		return closing(target, -1);
	if (!S_ISDIR(status.st_mode) != !directory) { /* move_mount(2) would say EINVAL */
		(void)close(target);
		errno = directory ? ENOTDIR : EISDIR;
		return -1;
	}
	return closing(target, sys_move_mount(mount, target, "", MOVE_FROM_EMPTY | MOVE_TO_EMPTY));
}

static int set_option(int context, const char *option)
{
	char key[64];
	const char *equals = strchr(option, '=');
	if (equals == NULL)
		return sys_fsconfig(context, CONFIG_FLAG, option, NULL);
	size_t length = (size_t)(equals - option);
	if (length >= sizeof key) {
		errno = EINVAL;
		return -1;
	}
	memcpy(key, option, length);
	key[length] = '\0';
	return sys_fsconfig(context, CONFIG_STRING, key, equals + 1);
}

/* A new file system, not attached anywhere yet. */
static int new_mount(const char *type, const char *options, uint32_t count, uint64_t attributes)
{
	int context = sys_fsopen(type);
	if (context < 0)
		return -1;
	for (uint32_t i = 0; i < count; i++, options = string_after(options))
		if (set_option(context, options) != 0)
			return closing(context, -1);
	if (sys_fsconfig(context, CONFIG_CREATE, NULL, NULL) != 0)
		return closing(context, -1);
	return closing(context, sys_fsmount(context, (unsigned int)attributes));
}

int tree_private_mounts(const struct step *step)
{
	(void)step;
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* What masks are cloned from. It is mounted below the job's root, over the host's: there it
 * belongs to this namespace (a detached mount cannot be cloned before Linux 6.15), and it goes
 * with the host's root. */
static int make_mask(void)
{
	tree.mask = new_mount("tmpfs", NULL, 0, 0);
	if (tree.mask < 0 || mknodat(tree.mask, "file", S_IFREG, 0) != 0 ||
	    mkdirat(tree.mask, "dir", 0) != 0 ||
	    sys_mount_setattr(tree.mask, 0, ATTRIBUTE_READ_ONLY) != 0)
		return -1;
	return sys_move_mount(tree.mask, AT_FDCWD, "/", MOVE_FROM_EMPTY);
}

int tree_root(const struct step *step)
{
	tree.root = open_source(step_string(step, 0), step->n[1]);
	if (tree.root < 0 || sys_mount_setattr(tree.root, AT_RECURSIVE, step->n[0]) != 0)
		return -1;
	if (make_mask() != 0)
		return -1;
	return sys_move_mount(tree.root, AT_FDCWD, "/", MOVE_FROM_EMPTY);
}

/* The host may have mounted several file systems on one directory, each with more below it. No link
 * is followed: /tmp as one to /proc/sys would take the seal from that. */
int tree_detach(const struct step *step)
{
	for (;;) {
		int target = resolve(step_string(step, 0), O_PATH | O_DIRECTORY, RESOLVE_LINKLESS);
		if (target < 0)
			return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -1;
		if (closing(target, fchdir(target)) != 0)
			return -1;
		if (umount2(".", MNT_DETACH) != 0)
			return errno == EINVAL ? 0 : -1; /* not a mount point: all are gone */
	}
}

int tree_mount(const struct step *step)
{
	const char *type = step_string(step, 0);
	int mounted = new_mount(type, step->strings > 2 ? step_string(step, 2) : NULL, step->strings - 2,
	                        step->n[0]);
	if (mounted < 0)
		return -1;
	int result = attach(mounted, step_string(step, 1), step->n[1], 1);
	if (result == 0 && tree.proc < 0 && strcmp(type, "proc") == 0) {
		tree.proc = mounted;
		return 0;
	}
	return closing(mounted, result);
}

int tree_bind(const struct step *step)
{
	struct stat status;
	int source = open_source(step_string(step, 0), step->n[1]);
	if (source < 0)
		return -1;
	if (sys_mount_setattr(source, AT_RECURSIVE, step->n[0]) != 0 || fstat(source, &status) != 0)
		return closing(source, -1);
	return closing(source, attach(source, step_string(step, 1), step->n[1], S_ISDIR(status.st_mode)));
}

int tree_make_dir(const struct step *step)
{
	const char *name;
	int parent = resolve_parent(step_string(step, 0), RESOLVE_LINKLESS, &name);
	if (parent < 0)
		return -1;
	return closing(parent, mkdirat(parent, name, (mode_t)step->n[0]));
}

int tree_device(const struct step *step)
{
	const char *name;
	int parent = resolve_parent(step_string(step, 0), RESOLVE_LINKLESS, &name);
	if (parent < 0)
		return -1;
	dev_t device = makedev((unsigned int)step->n[1], (unsigned int)step->n[2]);
	return closing(parent, mknodat(parent, name, S_IFCHR | (mode_t)step->n[0], device));
}

int tree_symlink(const struct step *step)
{
	const char *name;
	int parent = resolve_parent(step_string(step, 0), RESOLVE_LINKLESS, &name);
	if (parent < 0)
		return -1;
	return closing(parent, symlinkat(step_string(step, 1), parent, name));
}

int tree_read_only(const struct step *step)
{
	int target = resolve(step_string(step, 0), O_PATH, RESOLVE_LINKLESS);
	if (target < 0)
		return -1;
	return closing(target, sys_mount_setattr(target, 0, ATTRIBUTE_READ_ONLY));
}

/* Put a read-only clone of `source` (and `path` below it) over `target`. */
static int cover(int target, int source, const char *path)
{
	int clone = sys_open_tree(source, path, TREE_CLONE | TREE_CLOEXEC | AT_RECURSIVE |
	                          (*path == '\0' ? AT_EMPTY_PATH : 0));
	if (clone < 0)
		return -1;
	int result = sys_mount_setattr(clone, AT_RECURSIVE, ATTRIBUTE_READ_ONLY);
	if (result == 0)
		result = sys_move_mount(clone, target, "", MOVE_FROM_EMPTY | MOVE_TO_EMPTY);
	return closing(clone, result);
}

int tree_seal(const struct step *step)
{
	int target = resolve(step_string(step, 0), O_PATH, RESOLVE_LINKLESS);
	if (target < 0)
		return errno == ENOENT ? 0 : -1; /* this kernel does not have it */
	return closing(target, cover(target, target, ""));
}

int tree_mask(const struct step *step)
{
	struct stat status;
	int target = resolve(step_string(step, 0), O_PATH, RESOLVE_LINKLESS);
	if (target < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -1; /* nothing there to hide */
	if (fstat(target, &status) != 0)
		return closing(target, -1);
	return closing(target, cover(target, tree.mask, S_ISDIR(status.st_mode) ? "dir" : "file"));
}

/* pivot_root(2), "pivot_root(".", ".")": the old root is stacked on the new one, so no directory is
 * needed to put it in. On the old root lies the mask's own mount: that goes first, then the host. */
int tree_pivot(const struct step *step)
{
	(void)step;
	if (fchdir(tree.root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
	    umount2(".", MNT_DETACH) != 0 || umount2(".", MNT_DETACH) != 0)
		return -1;
	(void)close(tree.root);
	(void)close(tree.mask);
	tree.root = tree.mask = -1; /* nothing of the host is held open any more */
	return chdir("/");
}

int tree_open_proc(const char *path, int flags)
{
	return openat(tree.proc, path, flags | O_CLOEXEC | O_NOFOLLOW);
}
