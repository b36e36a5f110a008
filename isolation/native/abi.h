/* What Python and the init agree on: numbers and layouts, nothing else.
 *
 * Read twice: by the C compiler, and by cffi (which skips every line that begins with '#'), so it
 * holds plain enums and structs only. All integers are in host order: both ends are one machine.
 *
 *      Python                          init                         workload
 *        | -- clone3, execveat ---------> |                             |
 *        |    (descriptors in the slots)  | reads the plan              |
 *        |                                | executes its steps          |
 *        |                                | -- clone3 into the leaf --> |
 *        |                                |                             | executes the rest
 *        |                                | <-- report {step, errno} -- |
 *        |                                |     or EOF: it is executed  | execve
 *        | <-- MESSAGE_STATUS ----------- |                             |
 *        | -- REQUEST_SIGNAL, _STOP … --> | -- kill, cgroup.kill -----> |
 *        |                                | <-- SIGCHLD --------------- X
 *        |                                | empties and reads the leaf, removes it
 *        | <-- MESSAGE_RECORD ----------- |
 *        | <-- EOF ---------------------- X
 *
 * With a listener, whoever of root's connects to it is in charge from then on: it gets a
 * MESSAGE_STATUS at once, and whoever was in charge before sees EOF.
 */
#ifndef JOBSUP_ABI_H
#define JOBSUP_ABI_H

#include <stdint.h>

/* The descriptors of an init, by their numbers. One that is not needed is closed. */
enum slot {
	SLOT_PLAN = 0,    /* sealed memfd with the plan */
	SLOT_CONTROL = 1, /* SOCK_SEQPACKET, connected to whoever is in charge of the job */
	SLOT_LEAF = 2,    /* directory of the job's cgroup */
	SLOT_JOBS = 3,    /* directory of the leaf's parent: the leaf is removed through it */
	SLOT_STDIN = 4,   /* read end of a pipe of ours, or a regular file, which the init copies into
	                   * one; absent: the job reads an empty pipe */
	SLOT_STDOUT = 5,  /* where stdout goes in the foreground */
	SLOT_STDERR = 6,  /* where stderr goes in the foreground */
	SLOT_SPOOL = 7,   /* directory of a kept job: its exit record, and its output and index unless
	                   * that goes to SLOT_STDOUT and SLOT_STDERR */
	SLOT_LISTENER = 8, /* SOCK_SEQPACKET, listening for those who take charge of the job */
	SLOT_LIFELINE = 9, /* a pipe or socket whose hang-up ends the job */
	SLOT_COUNT = 10
};

enum plan_constant {
	PLAN_MAGIC = 0x4e4c504a, /* "JPLN" */
	PLAN_VERSION = 1,
	PLAN_NAME_SIZE = 64, /* of the leaf, with its NUL */
	RECORD_MAGIC = 0x4345524a, /* "JREC" */
	RECORD_VERSION = 2,
	RECORD_MAX = 65536, /* bytes of a record: one SOCK_SEQPACKET message */
	INDEX_STDOUT = 1,
	INDEX_STDERR = 2
};

/* What the loss of the control socket's peer means. */
enum peer_loss { PEER_LOSS_ENDS = 0, PEER_LOSS_CONTINUES = 1 };

/* What happens at the output cap. */
enum when_full { FULL_DROP = 0, FULL_KILL = 1, FULL_BLOCK = 2 };

/* The steps of a plan: n[i] are its numbers, s[i] its strings. Up to STEP_WORKLOAD the init
 * executes them, in its own namespaces and with every capability; from there on the workload
 * does, in its leaf, until it is the job's command. */
enum step_op {
	STEP_PRIVATE_MOUNTS = 1, /* no mount travels in or out */
	STEP_ROOT,          /* s0 host directory, n0 mount attributes, n1 how: the job's root tree */
	STEP_DETACH,        /* s0 target: whatever the host has mounted there goes */
	STEP_MOUNT,         /* s0 type, s1 target, s2… options "k=v"|"k", n0 attributes, n1 how */
	STEP_BIND,          /* s0 host source, s1 target, n0 attributes, n1 how */
	STEP_MAKE_DIR,      /* s0 target, n0 mode */
	STEP_DEVICE,        /* s0 target, n0 mode, n1 major, n2 minor */
	STEP_SYMLINK,       /* s0 target, s1 content */
	STEP_READ_ONLY,     /* s0 target: the mount there */
	STEP_SEAL,          /* s0 target: read-only from here down, by a bind onto itself */
	STEP_MASK,          /* s0 target: empty and unreadable, when it exists */
	STEP_PIVOT,         /* the tree becomes /, the host's root goes */
	STEP_HOSTNAME,      /* s0 */
	STEP_LOOPBACK,      /* lo up */
	STEP_WORKLOAD,      /* clone3 into the leaf */
	STEP_CGROUP_NAMESPACE,
	STEP_SESSION,       /* own session, no controlling terminal, own session keyring */
	STEP_OOM_SCORE,     /* n0 oom_score_adj, as a signed number */
	STEP_SCHEDULER,     /* SCHED_OTHER, nice 0, no io priority */
	STEP_RLIMIT,        /* n0 resource, n1 soft, n2 hard */
	STEP_STREAMS,       /* 0, 1 and 2, and no other descriptor */
	STEP_BOUNDING,      /* n0 mask: the bounding set; ambient emptied */
	STEP_GROUPS,        /* n… supplementary groups */
	STEP_USER,          /* n0 uid, n1 gid */
	STEP_CAPABILITIES,  /* n0 mask: permitted and effective; inheritable empty */
	STEP_NO_NEW_PRIVS,
	STEP_CWD,           /* s0 */
	STEP_UMASK,         /* n0 */
	STEP_EXEC,          /* n0 candidates, n1 arguments, n2 variables; s… in that order */
	/* The numbers of the steps are in stored records: a new one comes last. */
	STEP_OWNER,         /* n0 uid, n1 gid, n… groups: with whose rights an owner's paths are opened */
	STEP_END
};

/* The plan: this head, then `steps` times struct plan_step, its numbers (uint64_t), its strings
 * (uint32_t length, bytes, NUL) and zero bytes up to a multiple of eight. */
struct plan_head {
	uint32_t magic;
	uint32_t version;
	uint32_t size;  /* of everything, in bytes */
	uint32_t steps;
	uint32_t slots; /* bit i: slot i is there */
	uint32_t peer_loss;
	uint32_t when_full;
	uint32_t merge; /* 1: stderr is stdout's pipe, so that both keep their order */
	uint64_t wall_ms;    /* 0: none */
	uint64_t cpu_usec;   /* 0: none */
	uint64_t grace_ms;   /* between SIGTERM and cgroup.kill */
	uint64_t output_max; /* UINT64_MAX: none */
	uint64_t processors; /* of the host: how fast CPU time can be used up at most */
	char leaf[64];       /* its name in SLOT_JOBS */
};

struct plan_step {
	uint32_t op;
	uint32_t size; /* of the step, in bytes, this head included */
	uint32_t numbers;
	uint32_t strings;
};

/* From the starter to the init: one message each. */
enum request_type {
	REQUEST_SIGNAL = 1, /* number: to the process group of the job's first process */
	REQUEST_STOP = 2,   /* number: the signal; grace_ms until cgroup.kill */
	REQUEST_KILL = 3,
	REQUEST_PAUSE = 4, /* freeze the job, its wall time stands still */
	REQUEST_RESUME = 5
};

struct request {
	uint32_t type;
	uint32_t number;
	uint64_t grace_ms;
};

/* From the init: this head, then the payload. */
enum message_type {
	MESSAGE_STATUS = 1, /* struct status: at exec, to who has just connected, at each change */
	MESSAGE_RECORD = 2
};

struct status {
	uint64_t started_ns; /* CLOCK_REALTIME at exec; 0: not yet */
	uint32_t paused;     /* 1: every process of the job is frozen */
	uint32_t ending;     /* enum ended_by: what the init is ending it for */
};

struct message_head {
	uint32_t type;
	uint32_t size; /* of the payload */
};

/* What the init did to end a job; ENDED_NOTHING when it ended by itself. */
enum ended_by {
	ENDED_NOTHING = 0,
	ENDED_WALL_TIME = 1,
	ENDED_CPU_TIME = 2,
	ENDED_OUTPUT = 3,
	ENDED_STOP = 4,
	ENDED_KILL = 5,
	ENDED_PEER_LOST = 6
};

enum record_flag {
	RECORD_EXECUTED = 1,    /* wait_status holds */
	RECORD_INTERPRETER = 2, /* the file is there, the interpreter that it names is not */
	RECORD_LEAF_STAYS = 4   /* the leaf could not be emptied or removed */
};

/* The exit record: this head, then `sections` times: uint32_t length of the name, of the
 * content, the name, the content. A section is a file of the leaf as the kernel printed it. */
struct record_head {
	uint32_t magic;
	uint32_t version;
	uint32_t size; /* of everything, in bytes */
	uint32_t sections;
	uint32_t flags;
	uint32_t ended_by;
	int32_t wait_status;
	int32_t failed_step; /* -1: none */
	int32_t failed_errno;
	int32_t output_errno; /* of the first write to the reader or the spool that failed; EPIPE: the
	                       * reader had gone */
	uint32_t failed_op; /* enum step_op of failed_step, 0 without one */
	uint32_t paused_ms; /* of wall_ns: its clocks stood still; at most what this can hold */
	uint64_t started_ns; /* CLOCK_REALTIME */
	uint64_t ended_ns;   /* CLOCK_REALTIME */
	uint64_t wall_ns;    /* CLOCK_MONOTONIC between the two */
	uint64_t stdout_bytes;
	uint64_t stderr_bytes;
	uint64_t lost_bytes;
};

/* One entry of output.index: `length` bytes of a stream, from `offset` in its file. */
struct index_entry {
	uint32_t stream;
	uint32_t length;
	uint64_t offset;
	uint64_t realtime_ns;
};

#endif
