"""Jobs of a daemon from Python: start them, read what they wrote, stop them, see why they ended.

    sudo jobsup serve &                  # the daemon; once for the whole host
    python examples/first_jobs.py        # as any user

Where the host cannot run jobs, all of it at once in the bundled guest kernel:

    sudo vagrant/guest -- sh examples/session.sh
"""

from __future__ import annotations

import jobsup


def main() -> None:
    # The daemon listens on /run/jobsup/jobsup.sock, or where JOBSUP_SOCKET says.
    with jobsup.connect(wait=10) as supervisor:
        two_echoes(supervisor)
        stop_a_long_one(supervisor)
        a_failing_one(supervisor)
        what_cannot_be_stopped(supervisor)


def two_echoes(supervisor: jobsup.Supervisor) -> None:
    """Two jobs at once. What they write is kept, so it does not matter when it is read."""
    hello = supervisor.start(["echo", "hello"], name="hello")
    world = supervisor.start(["echo", "world"])

    # An id is all that has to be remembered: another program can ask for the job by it, also after
    # the daemon was restarted. A name, or the beginning of an id, does for people.
    for job_id in (hello.id, world.id):
        job = supervisor.job(job_id)
        # Bytes, from the first one on, until the job has ended.
        output = b"".join(job.output("stdout"))
        print(f"a job wrote {output!r}")

    # Why it ended, and what it used.
    verdict = hello.wait()
    print(f"the first one: {verdict.state}, exit code {verdict.exit_code}")


def stop_a_long_one(supervisor: jobsup.Supervisor) -> None:
    """A job runs until it ends, or is told to: SIGTERM, and SIGKILL after a grace of 5 seconds."""
    job = supervisor.start(["sleep", "1000"], mem="64M")
    print(f"sleeping: {job.status().state}")
    job.stop()
    verdict = job.wait()
    print(f"stopped: {verdict.state}, because: {verdict.message}")


def a_failing_one(supervisor: jobsup.Supervisor) -> None:
    """A command that fails is no error of ours: it is told in the verdict, and what it wrote to
    stderr is kept like everything else."""
    job = supervisor.start(["ls", "/nowhere"])
    verdict = job.wait()
    print(f"failing: {verdict.state}, because: {verdict.message}")
    print(f"it said {b''.join(job.output('stderr'))!r}")

    # One that cannot even be started: the verdict names the reason, and what may help.
    verdict = supervisor.start(["no-such-command"]).wait()
    print(f"not there: {verdict.state}, because: {verdict.message}")


def what_cannot_be_stopped(supervisor: jobsup.Supervisor) -> None:
    """Errors have a message that says what is wrong, and often a hint that says what to do."""
    try:
        supervisor.job("no-such-job").stop()
    except jobsup.NoSuchJob as error:
        print(f"an absent job: {error}")

    ended = supervisor.start(["true"])
    ended.wait()
    try:
        ended.stop()
    except jobsup.WrongState as error:
        print(f"a finished job: {error}")


if __name__ == "__main__":
    main()
