"""fork_until processes|threads: make them, sleeping, until one is refused; say after how many."""

import errno
import os
import signal
import sys
import threading

made = 0
try:
    while True:
        if sys.argv[1] == "threads":
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        elif os.fork() == 0:
            signal.pause()
        made += 1
except OSError as error:
    print(made, errno.errorcode[error.errno or 0])
except RuntimeError:  # how threading says that clone(2) gave EAGAIN
    print(made, "EAGAIN")
