# Sourced, not run: unpacks programs of this machine's own Debian suite, with the libraries they need, into a folder.
# No root, nothing registered with dpkg; private-apt.sh says how. Whoever sources this defines `say` and `die`.
# shellcheck shell=sh

. "$(dirname "$0")/private-apt.sh"

# What the C library and the loader bring is the machine's own; services and tools are of no use in a folder.
debian_own='^(libc6|libc-bin|libcrypt1|libjs-.*|lib.*-perl|libperl.*|libpam.*|libsystemd-shared|libsemanage.*|libllvm.*|libgl1-mesa-dri|libz3-4)$'

# debian_ready NAME: dies where NAME cannot be fetched.
debian_ready() {
    for debian_tool in apt-get dpkg-deb flock; do
        command -v "$debian_tool" >/dev/null 2>&1 || die "no $1 on PATH or in the cache, and no $debian_tool to fetch it with"
    done
    [ -r "$apt_keyring" ] || die "no $1 found, and $apt_keyring is missing (not a Debian machine?): install $1 and put it on PATH"
}

# debian_fetch WORK PACKAGE...: unpacks the packages and the libraries that they need into WORK/root.
debian_fetch() {
    debian_work=$1
    shift
    debian_uri=$(apt_own "")
    [ -n "$debian_uri" ] || die "no apt source for suite '$apt_codename' in /etc/apt: cannot tell which Debian mirror this machine uses"
    apt_private "$debian_work"
    for debian_suffix in "" -security; do
        debian_place=$(apt_own "$debian_suffix")
        [ -z "$debian_place" ] || apt_source "$debian_place" "$apt_codename$debian_suffix"
    done >"$debian_work/private.sources"
    say "fetching package lists from this machine's Debian mirror"
    apt-get -c "$debian_work/apt.conf" -qq update --error-on=any >"$debian_work/log" 2>&1 ||
        die "cannot read the package lists of $debian_uri (network?): $(tail -n 1 "$debian_work/log")"
    # No package counts as installed, so an installation that is only simulated names everything that is needed.
    debian_wanted=$(apt-get -c "$debian_work/apt.conf" -qq --simulate --no-install-recommends install "$@" \
        2>"$debian_work/log" | sed -n 's/^Inst \([^ ]*\) .*/\1/p' |
        grep -E '^(lib|zlib1g)' | grep -v -E "$debian_own" || :)
    say "fetching $* ($(printf '%s\n' "$debian_wanted" | grep -c .) libraries)"
    # shellcheck disable=SC2086  # a list of words
    (cd "$debian_work/debs" && apt-get -c "$debian_work/apt.conf" -qq download "$@" $debian_wanted) \
        >"$debian_work/log" 2>&1 || die "cannot fetch the packages from $debian_uri: $(tail -n 1 "$debian_work/log")"
    mkdir "$debian_work/root"
    for debian_each in "$debian_work"/debs/*.deb; do dpkg-deb -x "$debian_each" "$debian_work/root"; done
    for debian_each in doc man locale icons; do rm -rf "$debian_work/root/usr/share/$debian_each"; done
}
