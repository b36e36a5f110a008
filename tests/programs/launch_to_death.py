"""Launches one job for the name and directory given, and concludes it: for JOBSUP_KILL_AT."""

import os
import sys
from pathlib import Path

from tests.kernel.kept import Keeper, walls

keeper = Keeper(Path(sys.argv[1]), sys.argv[2])
job = keeper.launch(walls(sys.argv[3]))
if sys.argv[3].startswith("exec"):  # its init is lost
    while not job.receive():
        pass
    os.kill(job.pid or 0, 9)
while job.receive() is not None:
    pass
job.conclude()
