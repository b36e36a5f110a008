"""launch_in_a_row.py COUNT: so many jobs, one after the other, by this one process."""

import sys

from jobsup.isolation import Streams, launch
from jobsup.supervisor.spec import Spec
from jobsup.supervisor.translate import Caller, translate

spec = Spec.make(["true"], mem="64M", cpus=1, cwd="/")
walls, limits = translate(spec, "counted", Caller.current())
for number in range(int(sys.argv[1])):
    job = launch(walls, limits, f"counted-{number}", Streams())
    while job.receive() is not None:
        pass
    assert job.conclude() is not None
