#ifndef JOBSUP_OWNER_H
#define JOBSUP_OWNER_H

#include "steps.h"

/* From here to owner_end files are looked at with the owner's rights (STEP_OWNER). Both return -1
 * with errno when the rights could not be changed; owner_end keeps errno when they could. */
int owner_begin(void);
int owner_end(void);

#endif
