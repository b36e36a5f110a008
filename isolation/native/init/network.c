/* The job's own host name and loopback interface. */
#define _GNU_SOURCE
#include "steps.h"

#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int network_hostname(const struct step *step)
{
	const char *name = step_string(step, 0);
	return sethostname(name, strlen(name));
}

/* A new network namespace has a loopback interface that is down; netdevice(7). */
int network_loopback(const struct step *step)
{
	struct ifreq request = {.ifr_name = "lo"};
	(void)step;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	request.ifr_flags = IFF_UP;
	int result = ioctl(fd, SIOCSIFFLAGS, &request);
	(void)close(fd);
	return result;
}
