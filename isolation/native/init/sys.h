/* System calls that the C libraries that we build with do not wrap, and their structures, named
 * apart from the kernel's so that no header's version of them can clash. Sources: open_tree(2),
 * move_mount(2), fsopen(2), mount_setattr(2), openat2(2), clone(2), close_range(2). */
#ifndef JOBSUP_SYS_H
#define JOBSUP_SYS_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#define SYS_close_range 436
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef O_PATH
#define O_PATH 010000000
#endif

enum {
	TREE_CLONE = 1,           /* OPEN_TREE_CLONE */
	TREE_CLOEXEC = O_CLOEXEC, /* OPEN_TREE_CLOEXEC */
	MOVE_FROM_EMPTY = 0x04,   /* MOVE_MOUNT_F_EMPTY_PATH */
	MOVE_TO_EMPTY = 0x40,     /* MOVE_MOUNT_T_EMPTY_PATH */
	CONFIG_FLAG = 0,          /* FSCONFIG_SET_FLAG */
	CONFIG_STRING = 1,        /* FSCONFIG_SET_STRING */
	CONFIG_CREATE = 6,        /* FSCONFIG_CMD_CREATE */
	ATTRIBUTE_READ_ONLY = 1,  /* MOUNT_ATTR_RDONLY */
	RESOLVE_MAGICLESS = 0x02, /* RESOLVE_NO_MAGICLINKS */
	RESOLVE_LINKLESS = 0x04,  /* RESOLVE_NO_SYMLINKS */
	RESOLVE_ROOTED = 0x10,    /* RESOLVE_IN_ROOT */
};

struct open_rule {
	uint64_t flags, mode, resolve;
};

struct mount_attribute {
	uint64_t set, clear, propagation, userns_fd;
};

static inline int sys_open_tree(int dir, const char *path, unsigned int flags)
{
	return (int)syscall(SYS_open_tree, dir, path, flags);
}

static inline int sys_move_mount(int from, int to, const char *to_path, unsigned int flags)
{
	return (int)syscall(SYS_move_mount, from, "", to, to_path, flags);
}

static inline int sys_fsopen(const char *type)
{
	return (int)syscall(SYS_fsopen, type, 1 /* FSOPEN_CLOEXEC */);
}

static inline int sys_fsconfig(int fd, unsigned int command, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fd, command, key, value, 0);
}

static inline int sys_fsmount(int fd, unsigned int attributes)
{
	return (int)syscall(SYS_fsmount, fd, 1 /* FSMOUNT_CLOEXEC */, attributes);
}

static inline int sys_mount_setattr(int fd, unsigned int flags, uint64_t set)
{
	struct mount_attribute attribute = {.set = set};
	return (int)syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | flags, &attribute, sizeof attribute);
}

static inline int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_rule rule = {.flags = flags, .resolve = resolve};
	return (int)syscall(SYS_openat2, dir, path, &rule, sizeof rule);
}

static inline int sys_close_range(unsigned int first, unsigned int last)
{
	return (int)syscall(SYS_close_range, first, last, 0);
}

#endif
