/* bookkeeper JOURNAL NAME [KEY=NUMBER...]: a job whose every run can be proved from outside.
 *
 * Each run appends its own lines to the journal (O_APPEND, synced): "NAME start" before it does
 * anything, "NAME end" or "NAME term" as the last thing. Its output is a function of the arguments
 * alone: blocks of 4096 bytes, each of which begins with its number, so that one that is missing,
 * doubled or misplaced changes the sum of all.
 *
 *   out=N err=N   blocks to write to stdout and stderr
 *   seed=N        what else is in them
 *   code=N        what to exit with
 *   wait=MS       sleep so long after the output
 *   fail=N        the first N runs of this NAME exit with 9 instead
 *   hold=1        after the output, wait for SIGTERM, say "term" and exit with code
 *   paces=N       write in N portions: a byte is read from JOURNAL.go before each, and one is
 *                 written to JOURNAL.done after it (two FIFOs)
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, HEAD = 16, AT_ONCE = 16 };

static const char *journal, *name;
static volatile sig_atomic_t terminated;

static void on_term(int number)
{
	(void)number;
	terminated = 1;
}

static void fail(const char *what)
{
	perror(what);
	exit(99);
}

static void say(const char *word)
{
	char line[200];
	int length = snprintf(line, sizeof line, "%s %s\n", name, word);
	int fd = open(journal, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0 || write(fd, line, (size_t)length) != length || fsync(fd) != 0 || close(fd) != 0)
		fail("journal");
}

/* How many runs of this name there were, this one included. */
static int runs(void)
{
	char line[200], wanted[200];
	int count = 0;
	FILE *file = fopen(journal, "re");
	if (file == NULL)
		fail("journal");
	(void)snprintf(wanted, sizeof wanted, "%s start\n", name);
	while (fgets(line, sizeof line, file) != NULL)
		count += strcmp(line, wanted) == 0;
	(void)fclose(file);
	return count;
}

static void write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t wrote = write(fd, bytes, length);
		if (wrote < 0)
			fail("output");
		bytes += wrote;
		length -= (size_t)wrote;
	}
}

static void write_blocks(int fd, long first, long end, unsigned long seed)
{
	static char bytes[AT_ONCE * BLOCK];
	for (int i = 0; i < AT_ONCE * BLOCK; i++)
		bytes[i] = (char)('!' + (seed * 13 + (unsigned long)(i % BLOCK) * 7) % 90);
	while (first < end) {
		int count = 0;
		for (; count < AT_ONCE && first < end; count++, first++) {
			char head[32];
			(void)snprintf(head, sizeof head, "%015ld\n", first);
			memcpy(bytes + count * BLOCK, head, HEAD);
		}
		write_all(fd, bytes, (size_t)count * BLOCK);
	}
}

static int open_fifo(const char *suffix, int flags)
{
	char path[4096];
	(void)snprintf(path, sizeof path, "%s.%s", journal, suffix);
	int fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	return fd;
}

static void write_paced(long blocks, long paces, unsigned long seed)
{
	char token;
	int go = open_fifo("go", O_RDONLY), done = open_fifo("done", O_WRONLY);
	for (long pace = 0; pace < paces; pace++) {
		if (read(go, &token, 1) != 1)
			fail("go");
		write_blocks(1, blocks * pace / paces, blocks * (pace + 1) / paces, seed);
		if (write(done, &token, 1) != 1)
			fail("done");
	}
}

static long option(int argc, char **argv, const char *key)
{
	size_t length = strlen(key);
	for (int i = 3; i < argc; i++)
		if (strncmp(argv[i], key, length) == 0 && argv[i][length] == '=')
			return strtol(argv[i] + length + 1, NULL, 10);
	return 0;
}

static void hold(void)
{
	sigset_t term, before;
	(void)sigemptyset(&term);
	(void)sigaddset(&term, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &term, &before);
	while (!terminated)
		(void)sigsuspend(&before);
	say("term");
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 98;
	journal = argv[1];
	name = argv[2];
	unsigned long seed = (unsigned long)option(argc, argv, "seed");
	long milliseconds = option(argc, argv, "wait");
	if (option(argc, argv, "hold"))
		(void)sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_term, .sa_flags = SA_RESTART}, NULL);
	say("start");
	write_blocks(2, 0, option(argc, argv, "err"), seed + 1);
	if (option(argc, argv, "paces"))
		write_paced(option(argc, argv, "out"), option(argc, argv, "paces"), seed);
	else
		write_blocks(1, 0, option(argc, argv, "out"), seed);
	if (milliseconds > 0)
		(void)nanosleep(&(struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000}, NULL);
	if (option(argc, argv, "hold")) {
		hold();
		return (int)option(argc, argv, "code");
	}
	int result = runs() <= option(argc, argv, "fail") ? 9 : (int)option(argc, argv, "code");
	say("end");
	return result;
}
