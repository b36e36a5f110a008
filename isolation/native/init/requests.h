/* Who is in charge of the job, and what they ask for: a peer at a time, or a lifeline. */
#ifndef JOBSUP_REQUESTS_H
#define JOBSUP_REQUESTS_H

/* Wait for whom the plan names. -1 with errno. */
int requests_watch(void);

/* The peer asks for something, or has gone. */
void requests_on_peer(void);

/* Somebody takes charge: the newest peer is the one. */
void requests_on_listener(void);

/* The lifeline was let go. */
void requests_on_lifeline(void);

#endif
