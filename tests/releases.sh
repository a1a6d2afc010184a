#!/bin/bash
# Brings the releases of releases.txt into a folder of the build, and writes there, into `table`, what it found. This machine's own
# packages stay as they are: those of another suite are downloaded by apt, with this machine's sources and keys and the other suite's name,
# and unpacked. What is there already is not asked for again. What is out of reach is said, here and in the table, and is no failure.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-${CARGO_TARGET_DIR:-$here/../target}/releases}
# For the test of this script: another list, and another folder than apt's own.
list=${2:-$here/releases.txt}
etc=${3:-/etc/apt}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# What the machine's own sources may call their suite.
names="stable oldstable testing unstable $(. /etc/os-release 2>/dev/null && echo "${VERSION_CODENAME:-}")"
# No mirror may hold up a run for longer.
longest=300

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
exec 9>"$folder/lock"
flock 9
wanted() { grep -v '^#' "$list"; }
say() { echo "releases: $*" >&2; }

# Its version, for a program of either kind: "etcd Version: 3.5.30", "nats-server: v2.10.27".
version() { "$1" --version 2>/dev/null | sed -nE '1s/.*: v?([0-9][^ ]*).*/\1/p'; }

row() { printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$@"; }

# The machine's own programs, where it is of that suite.
own() {
  local suite=$1 program file
  command -v etcd >/dev/null && command -v etcdctl >/dev/null && command -v nats-server >/dev/null || return 1
  mkdir -p "$folder/$suite"
  # Tests of another run may use them just now.
  for program in etcd etcdctl etcdutl nats-server; do
    file=$(command -v "$program") && ln -sf "$file" "$folder/$suite/$program"
  done
  true
}

# The machine's sources of Debian with the names of other suites; in both forms that apt knows.
sources() {
  local suites=$1 file
  for file in "$etc"/sources.list "$etc"/sources.list.d/*.list; do
    [ -e "$file" ] && awk -v names="$names" -v suites="$suites" '
      BEGIN { split(names, n, " "); for (i in n) known[n[i]]; count = split(suites, s, " ") }
      $1 == "deb" {
        at = 2
        if ($2 ~ /^\[/) while ($at !~ /\]$/) at++
        if ($2 ~ /^\[/) at++
        if (!($(at + 1) in known) || $0 !~ /[ \t]main([ \t]|$)/) next
        for (i = 1; i <= count; i++) { line = $1; for (f = 2; f <= at; f++) line = line " " $f; print line, s[i], "main" }
      }' "$file"
  done >"$folder/apt/sources/machine.list"
  for file in "$etc"/sources.list.d/*.sources; do
    [ -e "$file" ] && awk -v names="$names" -v suites="$suites" '
      BEGIN { RS = ""; FS = "\n"; split(names, n, " "); for (i in n) known[n[i]] }
      {
        ours = main = 0; off = 0; text = ""
        for (f = 1; f <= NF; f++) {
          lower = tolower($f)
          if (lower ~ /^enabled: *no/) off = 1
          if (lower ~ /^components:.*[ \t]main([ \t]|$)/) { main = 1; $f = "Components: main" }
          if (lower ~ /^suites:/) { count = split($f, w, /[ \t]+/); for (i = 2; i <= count; i++) if (w[i] in known) ours = 1; $f = "Suites: " suites }
          if (lower ~ /^types:/) $f = "Types: deb"
          if ($f !~ /^#/) text = text $f "\n"
        }
        if (ours && main && !off) print text
      }' "$file"
  done >"$folder/apt/sources/machine.sources"
  [ -s "$folder/apt/sources/machine.list" ] || [ -s "$folder/apt/sources/machine.sources" ]
}

# An apt of our own, which knows nothing but those sources. Its answer, where it is no, is the reason.
update() {
  local suites=$1 apt="$folder/apt"
  command -v apt-get >/dev/null || { echo "this machine has no apt-get"; return 1; }
  rm -rf "$apt" && mkdir -p "$apt/sources" "$apt/lists/partial" "$apt/archives/partial"
  cat >"$apt/apt.conf" <<CONF
Dir::State "$apt";
Dir::State::lists "$apt/lists";
Dir::State::status "/dev/null";
Dir::Cache "$apt";
Dir::Cache::archives "$apt/archives";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "$(id -un)";
APT::Get::List-Cleanup "false";
APT::Default-Release "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi;
#clear Acquire::IndexTargets::deb::Contents-deb;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
  sources "$suites" || { echo "no source of Debian in $etc"; return 1; }
  say "asking apt's sources for: $suites"
  # Other sources than Debian's mirror may lack the suite: what counts is what is known afterwards.
  timeout $longest apt-get -c "$apt/apt.conf" -q update >"$apt/log" 2>&1 || true
  grep -qE '^(Get|Hit):' "$apt/log" || { sed -nE 's/^(Err|[EW]): *//p' "$apt/log" | head -1; return 1; }
}

# Downloads one package of a suite: the version that is wanted, or the newest there.
download() {
  local suite=$1 package=$2 version=$3 known chosen
  known=$(apt-cache -c "$folder/apt/apt.conf" madison "$package" | awk -F ' *[|] *' -v in_suite=" $suite/" 'index($3, in_suite) { print $2 }')
  [ -n "$known" ] || { echo "$(grep -m1 -E "^[EW]:.*$suite" "$folder/apt/log" || echo "$suite has no $package")"; return 1; }
  chosen=$(echo "$known" | grep -m1 -E "^([0-9]+:)?${version//./\\.}([-+~]|$)" || echo "$known" | head -1)
  (cd "$folder/apt" && timeout $longest apt-get -c apt.conf -q download "$package=$chosen") >>"$folder/apt/log" 2>&1 ||
    { echo "$package $chosen cannot be downloaded: $(grep '^E:' "$folder/apt/log" | tail -1)"; return 1; }
}

# Unpacks the programs of a suite. Its answer, where it is no, is the reason.
fetch() {
  local suite=$1 etcd=$2 nats=$3 apt="$folder/apt" program file
  rm -rf "${folder:?}/$suite" "$apt/unpacked" "$apt"/*.deb
  download "$suite" etcd-server "$etcd" && download "$suite" etcd-client "$etcd" && download "$suite" nats-server "$nats" || return 1
  for file in "$apt"/*.deb; do dpkg-deb -x "$file" "$apt/unpacked"; done
  mkdir "$folder/$suite"
  for program in etcd etcdctl etcdutl nats-server; do
    file=$(find "$apt/unpacked/usr" -path "*bin/$program" -type f) && [ -n "$file" ] && mv "$file" "$folder/$suite/$program"
  done
  rm -rf "$apt/unpacked" "$apt"/*.deb
  [ -n "$(version "$folder/$suite/etcd")" ] && [ -n "$(version "$folder/$suite/nats-server")" ] ||
    { rm -rf "${folder:?}/$suite"; echo "its programs do not run on this machine"; return 1; }
}

# A suite's row of an earlier run, where that found it.
found_before() { [ -x "$folder/$1/etcd" ] && grep -m1 -P "^$1\t$2\t$3\t[0-9]" "$folder/table" 2>/dev/null; }

missing=
owned=
codename=${names##* }
while read -r suite etcd nats; do
  if [ "$suite" = "$codename" ] && own "$suite"; then
    owned=$suite
    continue
  fi
  found_before "$suite" "$etcd" "$nats" >/dev/null || missing="$missing $suite"
done < <(wanted)
unreachable=
[ -z "$missing" ] || unreachable=$(update "$(echo $missing)") || unreachable=${unreachable:-no answer from any source}

while read -r suite etcd nats; do
  if [ "$suite" = "$owned" ]; then
    row "$suite" "$etcd" "$nats" "$(version "$folder/$suite/etcd")" "$(version "$folder/$suite/nats-server")" "this machine's packages" ""
  elif [ "${missing/ $suite/}" = "$missing" ]; then
    found_before "$suite" "$etcd" "$nats"
  elif [ -n "$unreachable" ]; then
    row "$suite" "$etcd" "$nats" - - "out of reach" "$unreachable"
    say "$suite (etcd $etcd, nats-server $nats) is out of reach: $unreachable"
  elif reason=$(fetch "$suite" "$etcd" "$nats"); then
    row "$suite" "$etcd" "$nats" "$(version "$folder/$suite/etcd")" "$(version "$folder/$suite/nats-server")" "Debian $suite, unpacked" ""
  else
    row "$suite" "$etcd" "$nats" - - "out of reach" "$reason"
    say "$suite (etcd $etcd, nats-server $nats) is out of reach: $reason"
  fi
done < <(wanted) >"$folder/table.new"
mv "$folder/table.new" "$folder/table"
rm -rf "$folder/apt/lists"
