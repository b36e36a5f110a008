/* Starting an init from a Python process of any size, and looking at files as another user.
 *
 * fork(2) would copy the caller's page tables (milliseconds at hundreds of MiB) and leave the
 * caller's memory readable in a process of the job; so the child shares the caller's memory, as
 * vfork(2) does: the calling thread sleeps in the kernel until the child has executed the init.
 *
 * Between clone3 and execveat the child owns nothing but its stack: it only makes system calls.
 * All signals are blocked meanwhile, or a handler of the caller's would run in its memory twice.
 */
#define _GNU_SOURCE
#include "shim.h"
#include "rights.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACK_SIZE = 64 * 1024, MAX_SLOTS = 32 };

/* Shared by parent and child: the child writes `result` before it gives up. */
struct start {
	int program;
	const int *slots;
	int count;
	volatile int error;
	volatile int stage;
};

static long clone3_onto_stack(struct clone_args *args, int (*child)(void *), void *argument)
{
	long result;
#if defined(__x86_64__)
	register int (*r8)(void *) __asm__("r8") = child;
	register void *r9 __asm__("r9") = argument;
	__asm__ volatile("syscall\n\t"
	                 "testq %%rax, %%rax\n\t"
	                 "jnz 1f\n\t"
	                 "xorl %%ebp, %%ebp\n\t" /* the outermost frame */
	                 "movq %%r9, %%rdi\n\t"
	                 "callq *%%r8\n\t"
	                 "ud2\n"
	                 "1:"
	                 : "=a"(result)
	                 : "0"((long)SYS_clone3), "D"(args), "S"(sizeof *args), "r"(r8), "r"(r9)
	                 : "rcx", "r11", "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone3;
	register long x0 __asm__("x0") = (long)args;
	register long x1 __asm__("x1") = (long)sizeof *args;
	register int (*x9)(void *) __asm__("x9") = child;
	register void *x10 __asm__("x10") = argument;
	__asm__ volatile("svc #0\n\t"
	                 "cbnz x0, 1f\n\t"
	                 "mov x29, xzr\n\t"
	                 "mov x0, x10\n\t"
	                 "blr x9\n\t"
	                 "brk #0\n"
	                 "1:"
	                 : "+r"(x0)
	                 : "r"(x8), "r"(x1), "r"(x9), "r"(x10)
	                 : "memory", "cc");
	result = x0;
#else
#error "jobsup knows how to clone onto a stack on x86_64 and aarch64"
#endif
	return result;
}

/* In the child. Descriptors are first moved above the slots, so that none is overwritten. */
static int place_descriptors(const struct start *start)
{
	int moved[MAX_SLOTS + 1];
	for (int i = 0; i <= start->count; i++) {
		int fd = i < start->count ? start->slots[i] : start->program;
		moved[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, start->count + 1);
		if (fd >= 0 && moved[i] < 0)
			return -1;
	}
	for (int i = 0; i < start->count; i++) {
		if (moved[i] < 0)
			(void)close(i); /* open or not: it is to be closed */
		else if (dup2(moved[i], i) < 0)
			return -1;
	}
	if (dup3(moved[start->count], start->count, O_CLOEXEC) < 0)
		return -1;
	return (int)syscall(SYS_close_range, start->count + 1, ~0U, 0);
}

static int child_main(void *argument)
{
	static char *const argv[] = {(char *)"jobsup-init", NULL};
	static char *const envp[] = {NULL};
	struct start *start = argument;

	start->stage = SPAWN_DESCRIPTORS;
	if (place_descriptors(start) == 0) {
		start->stage = SPAWN_EXEC;
		(void)syscall(SYS_execveat, start->count, "", argv, envp, AT_EMPTY_PATH);
	}
	start->error = errno;
	_exit(127);
}

struct spawn_result jobsup_spawn(int program, int cgroup, uint64_t flags, const int *slots, int count)
{
	struct spawn_result result = {.pid = -1, .pidfd = -1, .error = 0, .stage = SPAWN_CLONE};
	struct start start = {.program = program, .slots = slots, .count = count};
	int pidfd = -1;

	if (count < 0 || count > MAX_SLOTS) {
		result.error = EINVAL;
		return result;
	}
	void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
	                   -1, 0);
	if (stack == MAP_FAILED) {
		result.error = errno;
		return result;
	}
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_INTO_CGROUP | flags,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.stack = (uint64_t)(uintptr_t)stack,
		.stack_size = STACK_SIZE,
		.cgroup = (uint64_t)cgroup,
	};
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	long pid = clone3_onto_stack(&args, child_main, &start);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)munmap(stack, STACK_SIZE); /* the child has executed or exited: vfork semantics */

	if (pid < 0) {
		result.error = (int)-pid;
	} else if (start.error != 0) {
		result.error = start.error;
		result.stage = start.stage;
		(void)close(pidfd);
		while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
			;
	} else {
		result.pid = (int)pid;
		result.pidfd = pidfd;
	}
	return result;
}

_Static_assert(sizeof(struct rights_kept) == sizeof(struct rights_before), "the same, for cffi");

int jobsup_give_back_rights(const struct rights_kept *kept, const uint32_t *own, int own_count)
{
	struct rights_before before;
	memcpy(&before, kept, sizeof before);
	return rights_give_back(&before, own, (size_t)own_count) == 0 ? 0 : errno;
}

int jobsup_take_rights(uint32_t uid, uint32_t gid, const uint32_t *groups, int count,
                       struct rights_kept *kept, const uint32_t *own, int own_count)
{
	struct rights wanted = {.uid = uid, .gid = gid, .groups = groups, .count = (size_t)count};
	struct rights_before before;
	memset(&before, 0, sizeof before);
	int result = rights_take(&wanted, &before), error = errno;
	memcpy(kept, &before, sizeof before);
	if (result == 0)
		return 0;
	(void)jobsup_give_back_rights(kept, own, own_count);
	return error != 0 ? error : EPERM;
}
