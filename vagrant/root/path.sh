# Sourced by vagrant/guest and by build: where the Debian root directory of the systemd guest lies.
# Needs $root_dir, this folder, and ../kernel/path.sh for the cache.

# Prints the path, whether the directory is there or not; fails when this host is not Debian.  The
# release is the host's own, so that the host's Python and what is built for it run in there too.
root_path() {
    local suite hash
    suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-}") && [ -n "$suite" ] || return 1
    hash=$(sha256sum < "$root_dir/build" | cut -c 1-12)
    echo "$(cache_dir)/debian-$suite-$hash"
}
