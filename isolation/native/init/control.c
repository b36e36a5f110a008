#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 16 };

/* Listening once more makes the socket ours: SO_PEERCRED then tells who connects our pid, and not
 * that of the daemon that bound it. */
int control_listen(void)
{
	if (fcntl(SLOT_LISTENER, F_SETFL, O_NONBLOCK) != 0)
		return -1;
	return listen(SLOT_LISTENER, BACKLOG);
}

/* Root, and of no pid that we know: whoever has one is a process of the job's own. */
static bool may_connect(int peer)
{
	struct ucred who;
	socklen_t size = sizeof who;
	return getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.uid == 0 && who.pid == 0;
}

int control_accept(void)
{
	int newest = -1, peer;
	while ((peer = accept4(SLOT_LISTENER, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		int refused = peer;
		if (may_connect(peer)) {
			refused = newest;
			newest = peer;
		}
		if (refused >= 0)
			(void)close(refused);
	}
	return newest;
}

void control_replace(int peer)
{
	int size = 4 * RECORD_MAX; /* the record must fit, whatever was not read before it */
	(void)setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	(void)dup3(peer, SLOT_CONTROL, O_CLOEXEC);
	(void)close(peer);
}

/* The number stays taken, or the next file that is opened would get it, and then be replaced. */
void control_vacate(void)
{
	(void)dup3(SLOT_PLAN, SLOT_CONTROL, O_CLOEXEC);
}

int control_request(struct request *request)
{
	for (;;) {
		ssize_t length = recv(SLOT_CONTROL, request, sizeof *request, MSG_DONTWAIT | MSG_TRUNC);
		if (length == (ssize_t)sizeof *request)
			return 1;
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno == EAGAIN)
			return 0;
		if (length <= 0)
			return -1;
		/* not of this protocol */
	}
}

/* Never waits: a peer that does not read is not to hold up the job. */
void control_tell(const struct status *status)
{
	struct {
		struct message_head head;
		struct status status;
	} message = {{MESSAGE_STATUS, sizeof *status}, *status};
	(void)send(SLOT_CONTROL, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
}
