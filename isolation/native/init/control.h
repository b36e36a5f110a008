/* Whoever is in charge of the job: the starter, or who connected to the listener last. */
#ifndef JOBSUP_CONTROL_H
#define JOBSUP_CONTROL_H

#include "../abi.h"

/* Make the listener ours. -1 with errno. */
int control_listen(void);

/* A new connection of root's, the newest one that waits; all others are closed. -1: none. */
int control_accept(void);

/* `peer` becomes SLOT_CONTROL; its own number is closed. */
void control_replace(int peer);

/* Nobody is in charge any more. */
void control_vacate(void);

/* The next request: 1; 0: there is none now; -1: the peer has gone. */
int control_request(struct request *request);

/* Tell how things are, if somebody is there to hear it. */
void control_tell(const struct status *status);

#endif
