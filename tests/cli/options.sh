# The command line from outside: every failure begins with `error: <kind>: <text>` and exits with 1.
#   options.sh build/bin/toroid SOURCE_FOLDER
set -uo pipefail
toroid=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# refused KIND TEXT ARGS...: exit code 1, nothing on standard output, the first line of standard error as given.
refused() {
  local kind=$1 text=$2 out status=0
  shift 2
  out=$("$toroid" "$@" 2>"$work/err") || status=$?
  local first
  first=$(head -1 "$work/err")
  if [ $status -ne 1 ] || [ -n "$out" ] || [[ $first != "error: $kind: "*"$text"* ]] ||
     sed 1d "$work/err" | grep -qv '^  '; then
    printf 'toroid %s: exit code %s\n%s\n%s\nexpected error: %s: …%s…\n\n' "$*" $status "$out" "$(cat "$work/err")" "$kind" "$text"
    failed=1
  fi
}
# works TEXT ARGS...: exit code 0, TEXT on standard output, nothing on standard error.
works() {
  local text=$1 out status=0
  shift
  out=$("$toroid" "$@" 2>"$work/err") || status=$?
  if [ $status -ne 0 ] || [[ $out != *"$text"* ]] || [ -s "$work/err" ]; then
    printf 'toroid %s: exit code %s\n%s\n%s\nexpected %s\n\n' "$*" $status "$out" "$(cat "$work/err")" "$text"
    failed=1
  fi
}

works "toroid 0." --version
works "compile" --help
works "aten.relu" ops --like relu
refused bad_option "" 
refused bad_option "" nonsense
refused bad_option "input" compile
refused bad_option "threads" compile x.pt2 --threads -1
refused bad_option "nowhere" compile x.pt2 --to nowhere
refused io "x.pt2" compile "$work/x.pt2" -o "$work/y.pt2"
refused io "" run "$work/x.pt2" --random
refused io "" info "$work/x.pt2"
refused io "" verify "$work/x.pt2"
echo "not an archive" > "$work/text.pt2"
refused bad_file "" compile "$work/text.pt2" -o "$work/y.pt2"
refused bad_file "" run "$work/text.pt2" --random
: > "$work/empty.pt2"
refused bad_file "" compile "$work/empty.pt2" -o "$work/y.pt2"
# A package for a CPU without AVX tells what it is anywhere; `info` reads the manifest alone.
"$toroid" compile "$2/examples/digits/digits.pt2" --target x86-64-v2 -o "$work/v2.pt2" > "$work/said" 2>&1 || { cat "$work/said"; failed=1; }
works "target   x86-64-v2" info "$work/v2.pt2"
refused bad_option "target" compile "$2/examples/digits/digits.pt2" --target z80 -o "$work/y.pt2"
[ ! -e "$work/y.pt2" ] || { echo "a refused compilation left a file"; failed=1; }
exit $failed
