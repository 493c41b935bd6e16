# shellcheck shell=bash
# The compilers the guests need, found on the machine or fetched. Sourced by `build`, which sets `here` (this
# folder) and `cache` (where toolchains and build products may live).
# shellcheck disable=SC2154

die() {
    echo "guests: $*" >&2
    exit 1
}

# quietly COMMAND ARGUMENT...: shows what COMMAND prints only where it fails.
quietly() {
    local printed status=0
    printed=$("$@" 2>&1) || status=$?
    ((status == 0)) || printf '%s\n' "$printed" | tail -n 40 >&2
    return "$status"
}

# --- System packages ------------------------------------------------------------------------------------------

# apt_get ARGUMENT...: the system's apt-get, as root, waiting for another one to finish (seconds).
apt_get() {
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || die "apt-get $* needs root, and there is no sudo: run it yourself, then this again"
        as_root=(sudo)
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

# Brings apt's lists up to date, once a build.
lists_updated=
update_lists() {
    [[ -z $lists_updated ]] || return 0
    command -v apt-get >/dev/null || die "this machine has no apt-get; install by hand what the guests need: see README.md"
    echo "packages: apt-get update"
    # One broken source among several is no reason to stop: what matters is whether the packages can be had.
    quietly apt_get update || echo "packages: going on with the lists there are"
    lists_updated=yes
}

# need_packages PACKAGE...: installs those that are missing. The only thing here that changes the system.
need_packages() {
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    update_lists
    echo "packages: installing ${missing[*]}"
    quietly apt_get install --no-install-recommends "${missing[@]}"
}

# need_tool COMMAND PACKAGE: installs PACKAGE where COMMAND is missing.
need_tool() {
    command -v "$1" >/dev/null || need_packages "$2"
}

# A linker and the C library for programs of this machine.
need_gcc() {
    if ! command -v cc >/dev/null || ! command -v gcc >/dev/null || [[ -z $(compgen -G '/usr/lib/*/libc.a') ]]; then
        need_packages gcc libc6-dev
    fi
}

# --- C for WASI: clang, its wasm-ld, wasi-libc, and compiler-rt of clang's own version --------------------------

# Says whether the machine has everything that `clang --target=wasm32-wasi` needs.
wasi_clang_is_complete() {
    command -v clang >/dev/null &&
        command -v "$(clang -print-prog-name=wasm-ld)" >/dev/null &&
        [[ -f /usr/lib/wasm32-wasi/libc.a && -f $(clang --target=wasm32-wasi -print-libgcc-file-name) ]]
}

# The packages without a number are those of the distribution's default LLVM, of one version.
need_wasi_clang() {
    wasi_clang_is_complete && return 0
    need_packages clang lld wasi-libc libclang-rt-dev-wasm32
    wasi_clang_is_complete ||
        die "$(command -v clang) finds no wasm-ld, wasi-libc or compiler-rt for wasm32: is it the distribution's own?"
}

# --- Rust for WASI --------------------------------------------------------------------------------------------
# The machine's Rust has cargo and the Wasm linkers, but no standard library for WASI. Debian's rustc has one,
# which only that very rustc can use: both are unpacked privately, with the C library they want.

# The Debian release the compiler is taken from.
rust_release=trixie
debian_default_mirror=http://deb.debian.org/debian/
debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints where Debian packages may come from: the machine's own mirror, then the default one.
debian_mirrors() {
    local ID='' VERSION_CODENAME=''
    # shellcheck disable=SC1091
    source /etc/os-release
    if [[ $ID == debian && -n $VERSION_CODENAME ]]; then
        # shellcheck disable=SC2016
        apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
            awk -v release="$VERSION_CODENAME" '$1 == release && $2 == "main" { print $3 }'
    fi
    echo "$debian_default_mirror"
}

# private_apt_config DIR MIRROR: writes DIR/apt.conf, by which apt knows MIRROR only and keeps all it writes in DIR.
private_apt_config() {
    local dir=$1 mirror=$2 arch package
    arch=$(dpkg --print-architecture)
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial"
    echo "deb [arch=$arch target=Packages signed-by=$debian_keyring] $mirror $rust_release main" >"$dir/sources.list"
    # rustc depends on what links programs for the host, which the machine's Rust does here: taken as installed.
    for package in binutils gcc libc-dev; do
        printf 'Package: %s\nStatus: install ok installed\nArchitecture: %s\nVersion: 99\nDescription: taken as installed\n\n' \
            "$package" "$arch"
    done >"$dir/state/status"
    # `#clear` undoes what the system's configuration says; its proxies and credentials stay in force.
    cat >"$dir/apt.conf" <<END
#clear APT::Default-Release;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Install-Recommends "false";
APT::Sandbox::User "";
Dir::Cache "$dir/cache";
Dir::Cache::archives "$dir/cache/archives";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$dir/state";
Dir::State::lists "$dir/state/lists";
Dir::State::status "$dir/state/status";
END
}

# fetch_debian_rust DIR: downloads the newest rustc of the release and its WASI library to DIR/cache/archives.
# apt checks the release's signature and, by it, every package.
fetch_debian_rust() {
    local dir=$1 mirror
    for mirror in $(debian_mirrors | awk '!seen[$0]++'); do
        echo "rust for wasi: fetching Debian's rustc and its WASI library from $mirror (200 MB, once)"
        rm -rf "$dir"
        private_apt_config "$dir" "$mirror"
        if quietly apt-get -q -c "$dir/apt.conf" update &&
            quietly apt-get -q -y -c "$dir/apt.conf" --download-only install rustc libstd-rust-dev-wasm32; then
            return 0
        fi
    done
    die "no mirror served Debian $rust_release's rustc: check the network and /etc/apt, then run this again"
}

# Makes $cache/rust-wasm hold Debian's rustc; its file `rustc` starts it.
need_debian_rust() {
    local into=$cache/rust-wasm new
    [[ ! -x $into/rustc ]] || return 0
    [[ -f $debian_keyring ]] || need_packages debian-archive-keyring
    new=$(mktemp -d "$cache/.rust-wasm.XXXXXX")
    fetch_debian_rust "$new/apt"
    echo "rust for wasi: unpacking"
    find "$new/apt/cache/archives" -name '*.deb' -print0 | xargs -0 -P "$(nproc)" -I '{}' dpkg-deb --extract '{}' "$new/root"
    rm -rf "$new/apt" "$new/root/usr/share"
    find "$new/root/usr/lib/rustlib" -mindepth 1 -maxdepth 1 ! -name 'wasm32-wasi*' -exec rm -rf '{}' +
    # The compiler wants a newer C library than the machine may have, so it is started by its own loader.
    cat >"$new/rustc" <<'END'
#!/bin/sh
# Debian's rustc with its own C library for WASI targets, the machine's rustc for everything else: build scripts
# run on the machine and must be linked for it.
root=$(dirname "$0")/root
case " $* " in
*" --target wasm32-wasi"*) ;;
*) exec rustc "$@" ;;
esac
for loader in "$root"/usr/lib64/ld-linux-*.so.* "$root"/usr/lib/ld-linux-*.so.* "$root"/usr/lib/*/ld-linux-*.so.*; do
    if [ -x "$loader" ]; then
        libraries=$(dirname "$(find "$root/usr/lib" -name 'librustc_driver-*.so')")
        exec "$loader" --library-path "$libraries" "$root/usr/bin/rustc" --sysroot "$root/usr" "$@"
    fi
done
echo "rustc: no loader in $root; remove $(dirname "$0") and build again" >&2
exit 1
END
    chmod +x "$new/rustc"
    rm -rf "$into"
    mv "$new" "$into"
}

# rust_guest WORK NAME TARGET: builds package NAME of the workspace rust/ for TARGET and puts it at WORK/NAME.wasm.
rust_guest() {
    local work=$1 name=$2 target=$3 tools products=$cache/guests-target artifact
    command -v cargo >/dev/null || die "cargo is missing: install Rust 1.95 or newer (https://rustup.rs), then run this again"
    tools=$(rustc --print target-libdir)/../bin
    [[ -x $tools/wasm-component-ld && -x $tools/gcc-ld/wasm-ld ]] ||
        die "this Rust has no Wasm linkers in $tools: install it by rustup (https://rustup.rs), then run this again"
    need_gcc # for build scripts
    need_debian_rust
    echo "rust for wasi: compiling $name"
    # What a caller's environment says of its own build must not leak into this one.
    env -u CARGO_BUILD_TARGET -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER -u RUSTFLAGS \
        PATH="$tools/gcc-ld:$PATH" RUSTC="$cache/rust-wasm/rustc" CARGO_TARGET_DIR="$products" \
        CARGO_TARGET_WASM32_WASIP1_LINKER="$tools/rust-lld" \
        CARGO_TARGET_WASM32_WASIP2_LINKER="$tools/wasm-component-ld" \
        cargo build --quiet --release --locked --manifest-path "$here/rust/Cargo.toml" --package "$name" --target "$target"
    # cargo spells a program's name with the package's dashes, a library's with underscores.
    for artifact in "$products/$target/release/$name.wasm" "$products/$target/release/${name//-/_}.wasm"; do
        [[ -f $artifact ]] || continue
        cp "$artifact" "$work/$name.wasm"
        return 0
    done
    die "cargo left no $name.wasm in $products/$target/release"
}
