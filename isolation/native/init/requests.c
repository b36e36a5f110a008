#define _GNU_SOURCE
#include "requests.h"
#include "control.h"
#include "events.h"
#include "job.h"
#include "output.h"

#include <signal.h>
#include <sys/epoll.h>

int requests_watch(void)
{
	if (events_watch(ON_REQUEST, SLOT_CONTROL, EPOLLIN) != 0)
		return -1;
	if (plan_has_slot(job.plan.head, SLOT_LISTENER) &&
	    (control_listen() != 0 || events_watch(ON_LISTENER, SLOT_LISTENER, EPOLLIN) != 0))
		return -1;
	/* Only its end is asked for (POLLHUP always is), so that nobody can wake us with bytes. */
	if (plan_has_slot(job.plan.head, SLOT_LIFELINE))
		return events_watch(ON_LIFELINE, SLOT_LIFELINE, EPOLLRDHUP);
	return 0;
}

/* Whoever tells a job to end of which only the output is left wants to be rid of that. (A spool is
 * a disk, which takes what it is given.) */
static bool gives_up(const struct request *request)
{
	if (!job.draining || output_is_kept(job.plan.head))
		return false;
	if (request->type == REQUEST_SIGNAL)
		return request->number == SIGINT || request->number == SIGTERM ||
		       request->number == SIGHUP || request->number == SIGQUIT;
	return request->type == REQUEST_KILL;
}

static void obey(const struct request *request)
{
	if (gives_up(request)) {
		job.abandoned = true;
		return;
	}
	switch (request->type) {
	case REQUEST_SIGNAL:
		job_signal((int)request->number);
		break;
	case REQUEST_STOP:
		job_stop(ENDED_STOP, (int)request->number, request->grace_ms);
		break;
	case REQUEST_KILL:
		job_kill(ENDED_KILL);
		break;
	case REQUEST_PAUSE:
		job_pause();
		break;
	case REQUEST_RESUME:
		job_resume();
		break;
	default:
		break;
	}
}

/* Nobody is left for whom the job runs, or who reads what it wrote. */
static void abandon(void)
{
	job.abandoned = true;
	job_kill(ENDED_PEER_LOST);
}

static void drop_peer(void)
{
	events_leave_open(ON_REQUEST);
	control_vacate();
}

void requests_on_peer(void)
{
	struct request request;
	int got;
	while ((got = control_request(&request)) > 0)
		obey(&request);
	if (got == 0)
		return;
	drop_peer();
	if (job.plan.head->peer_loss == PEER_LOSS_ENDS)
		abandon();
}

/* What the one before asked for counts: it is obeyed first. */
void requests_on_listener(void)
{
	int peer = control_accept();
	if (peer < 0)
		return;
	if (events_fd(ON_REQUEST) >= 0)
		requests_on_peer();
	if (events_fd(ON_REQUEST) >= 0)
		drop_peer();
	control_replace(peer);
	(void)events_watch(ON_REQUEST, SLOT_CONTROL, EPOLLIN);
	job_tell();
}

void requests_on_lifeline(void)
{
	events_unwatch(ON_LIFELINE);
	abandon();
}
