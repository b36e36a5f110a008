#!/bin/sh
# What ./run needs from Debian, installed as root by `vagrant up` (and of use on any Debian machine).
set -eu
apt-get -q update
DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends \
    git python3 python3-venv python3-dev gcc libc6-dev musl-tools libcap-dev
