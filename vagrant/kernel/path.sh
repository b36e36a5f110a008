# Sourced by vagrant/guest, build and fetch: where the kernels lie.  Needs $kernel_dir, this folder.

kernel_package=linux-source-6.12

# Prints the path, whether the file is there or not; fails when the source package is not installed,
# since its version is part of the name: another source, patch or config is another file.
kernel_path() {
    local version hash
    version=$(dpkg-query -W -f '${Version}' "$kernel_package" 2>/dev/null) && [ -n "$version" ] || return 1
    hash=$({ cat "$kernel_dir/config" "$kernel_dir"/*.patch; echo "$version"; } | sha256sum | cut -c 1-12)
    echo "$(cache_dir)/linux-uml-${version%%-*}-$hash"
}

# Prints the directory of the newest of Debian's own kernels that fetch left; nothing without one.
fetched_kernel() {
    find "$(cache_dir)" -maxdepth 1 -name 'linux-image-*' 2>/dev/null | sort -V | tail -n 1
}

# Outside the clone, so that a fresh clone (or `git clean`) does not cost minutes.
cache_dir() {
    if [ "$(id -u)" = 0 ]; then
        echo "${JOBSUP_CACHE:-/var/cache/jobsup}"
    else
        echo "${JOBSUP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/jobsup}"
    fi
}
