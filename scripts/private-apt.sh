# Sourced, not run: apt with lists, cache and sources of its own, fed from the mirror this machine already uses.
# Needs no root, leaves the machine's apt as it is, and runs none of its hooks.
# shellcheck shell=sh

apt_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
apt_codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")

# Prints "URI SUITE" for every entry of the machine's own suites: deb822 stanzas first, then one-line entries.
apt_mirrors() {
    for apt_file in /etc/apt/sources.list.d/*.sources; do
        [ -r "$apt_file" ] || continue
        awk -v RS= '{
            uri = ""; suites = ""; off = 0; count = split($0, lines, "\n")
            for (i = 1; i <= count; i++) {
                words = split(lines[i], word, /[ \t]+/)
                key = tolower(word[1])
                if (key == "uris:") uri = word[2]
                if (key == "enabled:" && word[2] == "no") off = 1
                if (key == "suites:") suites = lines[i]
            }
            words = split(suites, word, /[ \t]+/)
            for (j = 2; j <= words && uri != "" && !off; j++) print uri, word[j]
        }' "$apt_file"
    done
    for apt_file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$apt_file" ] || continue
        sed -n 's/^deb[[:space:]]\{1,\}\(\[[^]]*\][[:space:]]*\)\{0,1\}//p' "$apt_file" | awk '{ print $1, $2 }'
    done
}

# apt_own SUFFIX: the mirror of the machine's own suite, with "", -updates or -security behind its name.
apt_own() { apt_mirrors | awk -v suite="$apt_codename$1" '$2 == suite { print $1; exit }'; }

# apt_source URI SUITE: one stanza for a private sources file.
apt_source() {
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nTargets: Packages\nSigned-By: %s\n\n' "$1" "$2" "$apt_keyring"
}

# apt_private FOLDER: makes FOLDER/apt.conf, which reads FOLDER/private.sources. The machine's proxy and TLS
# settings stay in force. No package counts as installed.
apt_private() {
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/debs" "$1/dpkg"
    : >"$1/dpkg/status"
    cat >"$1/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::sourcelist "$1/private.sources";
Dir::Etc::sourceparts "-";
Dir::State::lists "$1/lists";
Dir::State::status "$1/dpkg/status";
Dir::Cache "$1/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
CONF
}
