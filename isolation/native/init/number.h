/* Decimal numbers without printf and strtoull, which would be a third of the init's code. */
#ifndef JOBSUP_NUMBER_H
#define JOBSUP_NUMBER_H

#include <stddef.h>
#include <stdint.h>

enum { NUMBER_SIZE = 20 }; /* the longest text: -9223372036854775808 */

/* The number that `text` begins with; 0 without one. */
static inline uint64_t number_read(const char *text)
{
	uint64_t value = 0;
	while (*text >= '0' && *text <= '9')
		value = value * 10 + (uint64_t)(*text++ - '0');
	return value;
}

/* Write `value` into `text`, without a NUL; its length. */
static inline size_t number_write(char text[NUMBER_SIZE], int64_t value)
{
	char digits[NUMBER_SIZE];
	size_t count = 0, length = 0;
	uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
	do
		digits[count++] = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	if (value < 0)
		text[length++] = '-';
	while (count > 0)
		text[length++] = digits[--count];
	return length;
}

#endif
