#!/bin/bash
# Says how many lines of each crate the tests reach. "unit" as the first word leaves out the tests' crate, which starts
# servers. A program that is killed leaves no record: what it ran counts as not reached. `make coverage` calls it.
set -eu -o pipefail
cd "$(dirname "$0")/.."
. tests/tools.sh
cargo=${CARGO:-cargo}
if ! ls "$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-profdata >/dev/null 2>&1; then
  rustup component add llvm-tools || { echo "rustc's llvm-tools are missing: rustup component add llvm-tools" >&2; exit 1; }
fi
cargo_tool cargo-llvm-cov
scope=(--workspace)
[ "${1:-}" = unit ] && scope+=(--exclude backstay-tests)
failed=0
$cargo llvm-cov --locked --no-report --no-fail-fast "${scope[@]}" || failed=$?
# Programs that a test starts with an environment of its own write their records here: nobody reads them.
find . -name 'default_*.profraw' -not -path './target/*' -delete
$cargo llvm-cov report --summary-only | awk '
  # The columns of a file: its path; regions, functions and lines, each with their number and the missed ones.
  NF >= 10 && $1 ~ /\.rs$/ {
    split($1, path, "/"); crate = path[1]
    lines[crate] += $8; missed[crate] += $9; all += $8; all_missed += $9
  }
  function row(name, of, without) { return sprintf("%-12s %7d lines, %5.1f %% reached", name, of, of ? 100 * (of - without) / of : 0) }
  END {
    for (crate in lines) print row(crate, lines[crate], missed[crate]) | "sort"
    close("sort"); print row("all", all, all_missed)
  }'
[ $failed = 0 ] || { echo "some tests failed: see above" >&2; exit $failed; }
