#define _GNU_SOURCE
#include "events.h"

#include <stddef.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static int epoll;
static int descriptors[SOURCE_COUNT];

int events_open(void)
{
	for (int i = 0; i < SOURCE_COUNT; i++)
		descriptors[i] = -1;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	return epoll < 0 ? -1 : 0;
}

int events_watch(enum source source, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.u32 = source};
	if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
		return -1;
	descriptors[source] = fd;
	return 0;
}

int events_fd(enum source source)
{
	return descriptors[source];
}

void events_unwatch(enum source source)
{
	if (descriptors[source] < 0)
		return;
	(void)close(descriptors[source]); /* leaves the epoll set with it */
	descriptors[source] = -1;
}

void events_leave_open(enum source source)
{
	(void)epoll_ctl(epoll, EPOLL_CTL_DEL, descriptors[source], NULL);
	descriptors[source] = -1;
}

int events_set_timer(enum source source, uint64_t milliseconds)
{
	struct itimerspec when = {
		.it_value = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000}};
	if (milliseconds == 0)
		when.it_value.tv_nsec = 1; /* all zero would disarm it */
	if (descriptors[source] < 0) {
		int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (events_watch(source, timer, EPOLLIN) != 0)
			return -1;
	}
	return timerfd_settime(descriptors[source], 0, &when, NULL);
}

bool events_drain(enum source source)
{
	uint64_t count;
	return read(descriptors[source], &count, sizeof count) == (ssize_t)sizeof count;
}

void events_wait(void (*handle)(enum source source))
{
	struct epoll_event events[SOURCE_COUNT];
	int count = epoll_wait(epoll, events, SOURCE_COUNT, -1);
	for (int i = 0; i < count; i++)
		if (descriptors[events[i].data.u32] >= 0) /* one before it may have closed it */
			handle((enum source)events[i].data.u32);
}
