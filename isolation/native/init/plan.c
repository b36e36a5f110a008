#include "plan.h"

#include <errno.h>
#include <string.h>

/* The fewest numbers and strings that each step must bring: checked once, relied on everywhere. */
static const struct {
	uint8_t numbers, strings;
} least[STEP_END] = {
	[STEP_ROOT] = {2, 1},
	[STEP_DETACH] = {0, 1},
	[STEP_MOUNT] = {2, 2},
	[STEP_BIND] = {2, 2},
	[STEP_MAKE_DIR] = {1, 1},
	[STEP_DEVICE] = {3, 1},
	[STEP_SYMLINK] = {0, 2},
	[STEP_READ_ONLY] = {0, 1},
	[STEP_SEAL] = {0, 1},
	[STEP_MASK] = {0, 1},
	[STEP_HOSTNAME] = {0, 1},
	[STEP_OOM_SCORE] = {1, 0},
	[STEP_RLIMIT] = {3, 0},
	[STEP_STREAMS] = {2, 0},
	[STEP_BOUNDING] = {1, 0},
	[STEP_USER] = {2, 0},
	[STEP_CAPABILITIES] = {1, 0},
	[STEP_CWD] = {0, 1},
	[STEP_UMASK] = {1, 0},
	[STEP_EXEC] = {3, 2},
	[STEP_OWNER] = {2, 0},
};

static int bad(void)
{
	errno = EBADMSG;
	return -1;
}

static uint32_t length_before(const char *string)
{
	uint32_t length;
	memcpy(&length, string - sizeof length, sizeof length); /* strings are not aligned */
	return length;
}

static int strings_fit(const struct step *step)
{
	const char *at = step->text;
	for (uint32_t i = 0; i < step->strings; i++) {
		uint32_t length;
		if ((size_t)(step->next - at) < sizeof length)
			return 0;
		memcpy(&length, at, sizeof length);
		at += sizeof length;
		if ((size_t)(step->next - at) <= length || at[length] != '\0')
			return 0;
		at += length + 1;
	}
	return 1;
}

static int exec_fits(const struct step *step)
{
	uint64_t candidates = step->n[0], arguments = step->n[1], variables = step->n[2];
	return candidates >= 1 && arguments >= 1 && candidates <= step->strings &&
	       arguments <= step->strings && variables <= step->strings &&
	       candidates + arguments + variables == step->strings;
}

/* Decode the step that begins at `at`; 0 when it does not fit before `end`. */
static int decode(struct step *step, const char *at, const char *end)
{
	struct plan_step head;
	if ((size_t)(end - at) < sizeof head)
		return 0;
	memcpy(&head, at, sizeof head);
	if (head.size % 8 != 0 || head.size < sizeof head || head.size > (size_t)(end - at))
		return 0;
	if (head.numbers > (head.size - sizeof head) / sizeof(uint64_t))
		return 0;
	step->op = head.op;
	step->numbers = head.numbers;
	step->strings = head.strings;
	step->n = (const uint64_t *)(const void *)(at + sizeof head);
	step->text = at + sizeof head + head.numbers * sizeof(uint64_t);
	step->next = at + head.size;
	return 1;
}

int plan_check(struct plan *plan, const void *bytes, size_t size)
{
	const struct plan_head *head = bytes;
	if (size < sizeof *head || head->magic != PLAN_MAGIC || head->version != PLAN_VERSION ||
	    head->size != size || memchr(head->leaf, '\0', sizeof head->leaf) == NULL)
		return bad();
	plan->head = head;
	plan->end = (const char *)bytes + size;

	const char *at = (const char *)(head + 1);
	for (uint32_t i = 0; i < head->steps; i++) {
		struct step step = {0};
		if (!decode(&step, at, plan->end) || step.op == 0 || step.op >= STEP_END ||
		    step.numbers < least[step.op].numbers || step.strings < least[step.op].strings ||
		    !strings_fit(&step) || (step.op == STEP_EXEC && !exec_fits(&step)))
			return bad();
		at = step.next;
	}
	return at == plan->end ? 0 : bad();
}

int plan_next(const struct plan *plan, struct step *step)
{
	const char *at = step->next;
	if (at == NULL) {
		at = (const char *)(plan->head + 1);
		step->index = 0;
	} else {
		step->index++;
	}
	return at < plan->end && decode(step, at, plan->end);
}

const char *step_string(const struct step *step, uint32_t i)
{
	const char *string = step->text + sizeof(uint32_t);
	while (i-- > 0)
		string = string_after(string);
	return string;
}

const char *string_after(const char *string)
{
	return string + length_before(string) + 1 + sizeof(uint32_t);
}
