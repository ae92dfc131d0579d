# Bad input, odd places to write to and nonsense for options: each is refused in words, and nothing is lost or replaced.
#   hostile.sh build/bin/toroid SOURCE_FOLDER
set -uo pipefail
toroid=$1
digits=$2/examples/digits
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TOROID_CACHE="$work/cache"
failed=0
wrong() { printf '%s\n' "$*"; failed=1; }

# refused KIND TEXT COMMAND...: exit code 1 and `error: KIND: …TEXT…` first on standard error.
refused() {
  local kind=$1 text=$2 status=0
  shift 2
  "$@" > "$work/out" 2> "$work/err" || status=$?
  local first
  first=$(grep -v '^warning: ' "$work/err" | head -1)
  [ $status -eq 1 ] && [[ $first == "error: $kind: "*"$text"* ]] ||
    wrong "$* ends with $status: $(head -c 400 "$work/err"), expected error: $kind: …$text…"
}
repeat() { head -c "$2" /dev/zero | sed "s/\x0/$1/g"; }

# --- texts that nest without end
cat > "$work/m.graph" <<'GRAPH'
graph @m(%x: f32[s0, 8]) where 1 <= s0 <= 16 hint 4 {
  %y = aten.exp.default(%x) : f32[s0, 8]
  %z = aten.add.Tensor(%y, %x) : f32[s0, 8]
  return %z
}
GRAPH
"$toroid" compile "$work/m.graph" -o "$work/m.pt2" > "$work/out" || wrong "m.graph is not compiled"
"$toroid" compile "$work/m.graph" --to=loops > "$work/m.loops"
open=$(repeat '(' 100000)
close=$(repeat ')' 100000)
echo "graph @m(%x: f32[${open}8${close}]) { return %x }" > "$work/deep.graph"
refused bad_graph "nested too deep" "$toroid" compile --from=graph "$work/deep.graph" --to=graph
echo "graph @m(%x: f32[$(repeat '-' 100000)8]) { return %x }" > "$work/minus.graph"
"$toroid" compile --from=graph "$work/minus.graph" --to=graph | grep -qF 'f32[8]' || wrong "an even number of signs is none"
echo "graph @m(%x: f32[s0$(for i in $(seq 500); do echo -n " // s1 % 7"; done)]) { return %x }" > "$work/chain.graph"
refused bad_graph "nested too deep" "$toroid" compile --from=graph "$work/chain.graph" --to=graph
echo "graph @m(%x: f32[$(for i in $(seq 40); do echo -n "(s$i + 1) * "; done) 1]) { return %x }" > "$work/terms.graph"
refused bad_graph "more than 4096 terms" "$toroid" compile --from=graph "$work/terms.graph" --to=graph
python3 -c "import sys; print(open(sys.argv[1]).read().replace('s0', '(' * 100000 + 's0' + ')' * 100000, 1))" "$work/m.loops" > "$work/deep.loops"
refused bad_graph "nested too deep" "$toroid" compile --from=loops "$work/deep.loops" --to=loops
# A chain of any length becomes several kernels, and their text can be read back.
{
  echo "graph @m(%v0: f32[64]) {"
  for i in $(seq 6000); do echo "  %v$i = aten.relu.default(%v$((i - 1))) : f32[64]"; done
  echo "  return %v6000"
  echo "}"
} > "$work/long.graph"
"$toroid" compile --from=graph "$work/long.graph" --to=schedule > "$work/long.schedule" || wrong "a long chain is not fused"
"$toroid" compile --from=schedule "$work/long.schedule" --to=plan > "$work/out" || wrong "the text of a long chain cannot be read"

# --- places to write to
mkfifo "$work/pipe"
refused io "not a regular file" "$toroid" compile "$work/m.graph" -o "$work/pipe"
[ -p "$work/pipe" ] || wrong "a pipe was replaced"
mkfifo "$work/pipe.npz"
refused io "not a regular file" "$toroid" run "$work/m.pt2" --random --outputs "$work/pipe.npz"
[ -p "$work/pipe.npz" ] || wrong "a pipe was replaced"
refused io "folder" "$toroid" compile "$work/m.graph" -o "$work"
(timeout 20 cat "$work/pipe" > "$work/piped") &
timeout 20 "$toroid" compile "$work/m.graph" --to=graph -o "$work/pipe" || wrong "a text does not go into a pipe"
wait $!
[ -p "$work/pipe" ] && grep -q '^graph @m' "$work/piped" || wrong "a text does not go into a pipe"
mkdir "$work/there"
ln -s there/real.pt2 "$work/link.pt2"
"$toroid" compile "$work/m.graph" -o "$work/link.pt2" > "$work/out" || wrong "a link is not followed"
[ -L "$work/link.pt2" ] && [ -f "$work/there/real.pt2" ] || wrong "a link was replaced"
ln -s there/real.npz "$work/link.npz"
for again in 1 2; do "$toroid" run "$work/m.pt2" --random --outputs "$work/link.npz" || wrong "a link is not followed"; done
[ -L "$work/link.npz" ] && [ -f "$work/there/real.npz" ] || wrong "a link was replaced"
ln -s round "$work/round"
refused io "" "$toroid" compile "$work/m.graph" -o "$work/round"
[ -z "$(find "$work" -name '*.tmp-*' -o -name '.tmp-*' | grep -v /cache/)" ] || wrong "temporaries are left"
if [ -c /dev/full ]; then
  for command in "compile $work/m.graph --to=graph" ops "info $work/m.pt2 --json" "bench $work/m.pt2 --json --runs 1" --help; do
    status=0
    # shellcheck disable=SC2086
    "$toroid" $command > /dev/full 2> "$work/err" || status=$?
    [ $status -eq 1 ] && grep -q '^error: io: cannot write to standard output' "$work/err" || wrong "$command into a full disk ends with $status"
  done
fi

# --- a cache that cannot be written to is said once, and fails nothing
: > "$work/file"
TOROID_CACHE="$work/file" "$toroid" compile "$work/m.graph" -o "$work/c.pt2" > "$work/out" 2> "$work/err" || wrong "no package without a cache"
[ "$(grep -c '^warning: no cache: ' "$work/err")" -eq 1 ] && grep -q "no cache" "$work/out" || wrong "a cache that cannot be written to is not said: $(cat "$work/err")"

# --- sizes
for size in s0=-4 s0=0 s0=17 s0=20000000000; do
  refused bad_option "outside of what the model takes: 1..16" "$toroid" run "$work/m.pt2" --random --size $size
  refused bad_option "outside of what the model takes: 1..16" "$toroid" info "$work/m.pt2" --size $size
done
sed 's/ where.*hint 4 / where 1 <= s0 /' "$work/m.graph" > "$work/any.graph"
"$toroid" compile "$work/any.graph" -o "$work/any.pt2" > "$work/out"
refused bad_option "all the memory of this machine" "$toroid" run "$work/any.pt2" --random --size s0=20000000000000
"$toroid" info "$work/m.pt2" --size s0=16 > "$work/info"
grep -q '^bytes_moved  .* at s0=4$' "$work/info" || wrong "info does not say what its totals are for: $(cat "$work/info")"

# --- manifests of other types; members that are changed
python3 - "$work" <<'PYTHON'
import json, sys, zipfile
work = sys.argv[1]

def rewrite(name, change):
    with zipfile.ZipFile(f"{work}/m.pt2") as old, zipfile.ZipFile(f"{work}/{name}", "w") as new:
        for item in old.infolist():
            new.writestr(item, change(item.filename, old.read(item)))

def manifest(change):
    def apply(name, data):
        if not name.endswith("/manifest.json"):
            return data
        fields = json.loads(data)
        change(fields)
        return json.dumps(fields).encode()
    return apply

def deep(name, data):
    if not name.endswith("/manifest.json"):
        return data
    return data[:data.rindex(b"}")] + b', "more": ' + b"[" * 100000 + b"]" * 100000 + b"}"

changes = {
    "symbols": lambda m: m["report"].update(symbols=7),
    "low": lambda m: m["report"]["symbols"][0].update(low="1"),
    "kernels": lambda m: m["report"].update(kernels=[1]),
    "inputs": lambda m: m["signature"].update(inputs=[3]),
    "names": lambda m: m["signature"]["outputs"][0].update(sizes=[3]),
    "compiler": lambda m: m.update(compiler=3),
    "threads": lambda m: m.update(default_threads="2"),
}
for name, change in changes.items():
    rewrite(f"type_{name}.pt2", manifest(change))
rewrite("type_deep.pt2", deep)
# A size that nests without end is no number: the rest is shown.
rewrite("nest.pt2", manifest(lambda m: m["report"].update(bytes_moved="(" * 100000)))
# One byte of each member that neither hash covers.
good = open(f"{work}/m.pt2", "rb").read()
with zipfile.ZipFile(f"{work}/m.pt2") as archive:
    for item in archive.infolist():
        if item.filename.endswith((".so", "weights.bin")):
            continue
        data = archive.read(item)
        at = good.index(data, item.header_offset)
        broken = bytearray(good)
        broken[at + len(data) // 2] ^= 1
        open(f"{work}/flip_{item.filename.replace('/', '_')}.pt2", "wb").write(broken)
PYTHON
for package in "$work"/type_*.pt2; do refused bad_file "" "$toroid" info "$package"; done
"$toroid" info "$work/nest.pt2" > "$work/out" || wrong "a size that nests without end ends info"
"$toroid" verify "$work/m.pt2" > "$work/out" || wrong "the package is not verified"
flips=0
for package in "$work"/flip_*.pt2; do
  refused bad_file "" "$toroid" verify "$package"
  flips=$((flips + 1))
done
[ $flips -ge 5 ] || wrong "only $flips members were changed"

# --- nonsense for options
refused bad_option 'nothing to explain about `bogus`' "$toroid" compile "$work/m.graph" -o "$work/x.pt2" --explain=bogus
refused bad_option "deadline" "$toroid" compile "$work/m.graph" -o "$work/x.pt2" --deadline -1
refused bad_option "deadline" "$toroid" compile "$work/m.graph" -o "$work/x.pt2" --deadline nan
refused bad_option "stop after" "$toroid" compile "$work/m.graph" -o "$work/x.pt2" --stop-after -1
refused bad_option "empty path" "$toroid" compile "$work/m.graph" -o ""
refused bad_option "empty path" "$toroid" run "$work/m.pt2" --random --outputs ""
refused bad_option "runs" "$toroid" bench "$work/m.pt2" --runs -5
refused bad_option "seconds" "$toroid" bench "$work/m.pt2" --seconds -1
refused bad_option "seconds" "$toroid" bench "$work/m.pt2" --seconds nan
refused bad_option "seed" "$toroid" run "$work/m.pt2" --random --seed -1
refused bad_option 'no command `foo`' "$toroid" foo
for megabytes in abc -3 0 99999999999999; do
  refused bad_option "TOROID_CACHE_MB" env TOROID_CACHE_MB=$megabytes "$toroid" compile "$work/m.graph" -o "$work/x.pt2"
done
[ ! -e "$work/x.pt2" ] || wrong "a refused compilation left a file"
python3 - "$work" <<'PYTHON'
import sys, numpy
x = numpy.ones((4, 8), numpy.float32)
numpy.savez(f"{sys.argv[1]}/two.npz", arg0=x, arg1=x)
PYTHON
refused bad_input 'has `arg1`, and the model takes 1 input' "$toroid" run "$work/m.pt2" --inputs "$work/two.npz"

# --- texts that are none
refused io '\xff\x1b[31m' "$toroid" info "$work/$(printf '\xff\x1b[31m').pt2"
refused io '\xff.graph' "$toroid" compile "$work/$(printf '\xff').graph" -o "$work/x.pt2"
refused io "Too many open files" bash -c 'ulimit -n 8; exec "$0" compile "$1" -o "$2" --no-cache' "$toroid" "$work/m.graph" "$work/x.pt2"

# --- a compiler that fails leaves its source where nobody else had a say
cat > "$work/cxx" <<'CXX'
#!/bin/sh
case "$1" in --version) echo 'g++ (GCC) 12';; *) exit 1;; esac
CXX
chmod +x "$work/cxx"
for again in 1 2; do
  TMPDIR="$work" TOROID_CXX="$work/cxx" "$toroid" compile "$work/m.graph" -o "$work/x.pt2" --no-cache > "$work/out" 2> "$work/err" && wrong "a failing compiler fails nothing"
  folder=$(sed -n 's/^ *to run it again: \(.*\)\/[^/]*$/\1/p' "$work/err")
  [ "$(stat -c %a "$folder")" = 700 ] || wrong "the folder of a failed compilation is not its owner's alone: $(cat "$work/err")"
done
[ "$(find "$work" -maxdepth 1 -name 'toroid-failed-compile-*' | wc -l)" -eq 2 ] || wrong "two failed compilations share a folder"
exit $failed
