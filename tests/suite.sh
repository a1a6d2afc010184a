#!/bin/bash
# Runs the tests: all of them on the chosen release of etcd and nats-server (tests/src/releases.rs), then their core on each other one; with
# the word "all", all of them on each. Says at the end what there was and what was run on it. `make test` and `make test-all` call it.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
passed=()
choice=${BACKSTAY_TEST_ETCD:-}

releases() { $cargo run --locked -q -p backstay-tests --bin backstay-test-releases -- "$@"; }

ended() {
  local code=$? line
  unset BACKSTAY_TEST_ETCD
  [ -z "$choice" ] || export BACKSTAY_TEST_ETCD=$choice
  printf '\nReleases that these tests know (tests/releases.txt):\n'
  releases || true
  for line in "${passed[@]}"; do echo "passed: $line"; done
  [ $code = 0 ] || echo "NOT passed: what follows the last line above" >&2
  exit $code
}
trap ended EXIT

everything() { $cargo test --locked --workspace; }

# What meets etcd and NATS themselves: the page with `once`, restores, proofs, and who takes over from whom.
core() {
  local tests="$cargo test --locked -p backstay-tests"
  $tests --test page --test restore --test proof
  $tests --test breaker -- members:: standby:: takeover::
  $tests --test fleet -- command:: verify::
}

$cargo build --locked --workspace --bins
echo "Releases that these tests know (tests/releases.txt):"
releases
everything
passed+=("everything, on the chosen release")
others=$(releases others)
for release in $others; do
  export BACKSTAY_TEST_ETCD=$release
  if [ "${1:-}" = all ]; then
    everything
    passed+=("everything, on $release")
  else
    core
    passed+=("the core, on $release")
  fi
done
