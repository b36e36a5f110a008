/* Reading a plan: the layout is in abi.h. Nothing here allocates or makes a system call, so the
 * same code is tested on the host under AddressSanitizer. */
#ifndef JOBSUP_PLAN_H
#define JOBSUP_PLAN_H

#include "../abi.h"

#include <stdbool.h>
#include <stddef.h>

struct plan {
	const struct plan_head *head;
	const char *end;
};

/* One step; `n` are its numbers. A cursor too: start with all zero. */
struct step {
	uint32_t index;
	uint32_t op;
	uint32_t numbers;
	uint32_t strings;
	const uint64_t *n;
	const char *text; /* the first string's length */
	const char *next; /* the step after this one */
};

/* Check all of `size` bytes at `bytes` (aligned to eight); -1 with errno EBADMSG when anything
 * does not hold. After it, every step and string is inside and every string ends in NUL. */
int plan_check(struct plan *plan, const void *bytes, size_t size);

/* Whether the starter has put something there. */
static inline bool plan_has_slot(const struct plan_head *head, enum slot slot)
{
	return head->slots & 1U << slot;
}

/* Move `step` to the next one; 0 after the last. */
int plan_next(const struct plan *plan, struct step *step);

/* The i-th string of a step. */
const char *step_string(const struct step *step, uint32_t i);

/* From one string to the one after it. */
const char *string_after(const char *string);

#endif
