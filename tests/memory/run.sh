#!/usr/bin/env bash
# The kernels' tests under Miri (undefined behaviour, data races; the portable code, which is all that Miri knows), built with
# AddressSanitizer (addresses and leaks, of every instruction set that this processor has) and under valgrind (addresses and
# leaks; the AVX2 code, which is the most that valgrind knows). Needs a nightly toolchain with `miri`, and valgrind; says which
# one is missing.
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/foehn-target}/memory"
if cargo +nightly miri --version >/dev/null 2>&1; then
    # Isolation is off: the pool asks the system for the number of cores.
    MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test
else
    echo "memory: no Miri (rustup component add --toolchain nightly miri rust-src)" >&2
fi
# The sanitizer's runtime comes with every toolchain; only its flag is not stable yet. With a target named, the flag is not for
# build scripts and macros.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" cargo test --release --target "$host"
if command -v valgrind >/dev/null; then
    binary=$(cargo test --release --no-run --message-format=json 2>/dev/null |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
    valgrind --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite "$binary" --test-threads 1
else
    echo "memory: no valgrind" >&2
fi
