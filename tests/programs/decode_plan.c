/* Reads a plan from stdin as the init does, and walks through everything in it: every step, every
 * number, every string. "good N" with the number of steps, or "bad"; what a decoder does wrong is
 * for the sanitizers to tell. Built with isolation/native/init/plan.c. */
#include "init/plan.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Sums keep the compiler from leaving the reading out. */
static uint64_t walk(const struct plan *plan, uint32_t *steps)
{
	uint64_t sum = 0;
	struct step step = {0};
	while (plan_next(plan, &step)) {
		(*steps)++;
		for (uint32_t i = 0; i < step.numbers; i++)
			sum += step.n[i];
		const char *string = step.strings > 0 ? step_string(&step, 0) : NULL;
		for (uint32_t i = 0; i < step.strings; i++) {
			sum += strlen(string) + strlen(step_string(&step, i));
			if (i + 1 < step.strings)
				string = string_after(string);
		}
	}
	return sum;
}

static int decode(const char *bytes, uint32_t size)
{
	/* Of exactly this size, so that one byte too far is seen. */
	char *exact = malloc(size > 0 ? size : 1);
	if (exact == NULL)
		return 1;
	memcpy(exact, bytes, size);
	struct plan plan;
	uint32_t steps = 0;
	if (plan_check(&plan, exact, size) != 0) {
		(void)puts("bad");
	} else {
		volatile uint64_t sum = walk(&plan, &steps);
		(void)sum;
		(void)printf("good %u\n", steps);
	}
	free(exact);
	return 0;
}

/* Many plans in one run: a length of four bytes before each. */
int main(void)
{
	static char bytes[1 << 20];
	uint32_t size;
	while (fread(&size, sizeof size, 1, stdin) == 1) {
		if (size > sizeof bytes || fread(bytes, 1, size, stdin) != size || decode(bytes, size) != 0)
			return 2;
	}
	return 0;
}
