#!/bin/bash
# Runs the tests: all of them on the chosen release of etcd and nats-server (tests/src/releases.rs), then their core on each other one; with
# the word "all", all of them on each. What fails keeps nothing else from running. Says at the end what there was, what was run on it and
# which programs failed; a failure is a failure of the whole. `make test` and `make test-all` call it.
set -u -o pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
passed=()
failed=()
choice=${BACKSTAY_TEST_ETCD:-}
# What cargo says of a run, among it which programs failed.
said=$(mktemp)
[ -t 2 ] && export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-always}"

# Always the whole workspace: another choice of packages chooses other features, and compiles half of the dependencies anew.
releases() { "${CARGO_TARGET_DIR:-target}/debug/backstay-test-releases" "$@"; }

ended() {
  local line
  rm -f "$said"
  unset BACKSTAY_TEST_ETCD
  [ -z "$choice" ] || export BACKSTAY_TEST_ETCD=$choice
  printf '\nReleases that these tests know (tests/releases.txt):\n'
  releases || true
  for line in ${passed[@]+"${passed[@]}"}; do echo "passed: $line"; done
  for line in ${failed[@]+"${failed[@]}"}; do echo "NOT passed: $line" >&2; done
}
trap ended EXIT
trap 'failed+=("what follows: it was interrupted"); exit 130' INT TERM

# Runs `cargo test` with these arguments to its end, and notes what failed on which release.
run() {
  local on=$1 programs
  shift
  # Only what cargo itself says goes through the file; what the tests print does not.
  if { $cargo test --locked --no-fail-fast "$@" 2>&1 >&3 3>&- | tee "$said" >&2; } 3>&1; then
    return 0
  fi
  # Cargo's own list at its end: one line for each program, `-p PACKAGE --test NAME`; none where it did not build.
  programs=$(sed 's/\x1b\[[0-9;]*m//g' "$said" | grep -o '^ *`-p [^`]*`' | tr -d '`' | sed 's/^ *//' || true)
  [ -n "$programs" ] || programs="cargo test $*"
  while read -r program; do failed+=("$program, on $on"); done <<< "$programs"
  return 1
}

everything() { run "$1" --workspace && passed+=("everything, on $1"); }

# What meets etcd and NATS themselves: the page with `once`, restores, proofs, and who takes over from whom.
core() {
  local well=1
  run "$1" --workspace --test page --test restore --test proof || well=0
  run "$1" --workspace --test breaker -- members:: standby:: takeover:: || well=0
  run "$1" --workspace --test cluster_restore -- command:: verify:: || well=0
  [ $well = 0 ] || passed+=("the core, on $1")
}

$cargo build --locked --workspace --bins || { failed+=("the build: nothing was run"); exit 1; }
echo "Releases that these tests know (tests/releases.txt):"
releases || { failed+=("the releases: nothing was run"); exit 1; }
others=$(releases others) || { failed+=("the list of other releases: nothing was run"); exit 1; }
everything "the chosen release"
for release in $others; do
  export BACKSTAY_TEST_ETCD=$release
  if [ "${1:-}" = all ]; then everything "$release"; else core "$release"; fi
done
[ ${#failed[@]} = 0 ]
