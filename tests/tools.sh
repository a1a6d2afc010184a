# Sourced: `cargo_tool NAME` has the cargo subcommand NAME ready, built into the build folder where the machine has none.
# The debug build is done sooner, and fast enough for what it does here.
tools=${CARGO_TARGET_DIR:-$PWD/target}/tools
mkdir -p "$tools"
PATH="$tools/bin:$PATH"

cargo_tool() {
  command -v "$1" >/dev/null || ${CARGO:-cargo} install --locked --debug --root "$tools" "$1"
}
