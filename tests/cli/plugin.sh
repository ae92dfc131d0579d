#!/usr/bin/env bash
# Plug-ins without PyTorch: a program that calls one, compiled and run; and what is said where one is missing or no good.
set -euo pipefail
toroid=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
expect() { grep -qF -- "$1" "$2" || { echo "no \`$1\` in:"; cat "$2"; exit 1; }; }
refused() {
  local text=$1
  shift
  if "$@" > "$work/said.txt" 2>&1; then echo "not refused: $*"; exit 1; fi
  expect "$text" "$work/said.txt"
}
plugin() { ${CC:-cc} -shared -fPIC -O2 -std=c11 -I "$source/include" "$1" -o "$2"; }
plugin "$source/examples/plugin/threshold.c" "$work/libthreshold.so"

cat > "$work/m.graph" <<'GRAPH'
graph @m(%x: f32[2*s0, 6]) where 1 <= s0 <= 64 hint 5 {
  %y = threshold.soft_pairs.default(%x, 0.25) : f32[s0, 6]  @ pairs, net.py:3
  %z = aten.neg.default(%y) : f32[s0, 6]
  return %z
}
GRAPH
refused "no lowering for \`threshold.soft_pairs.default\`" "$toroid" compile --from=graph "$work/m.graph" -o "$work/m.pt2"
"$toroid" compile --from=graph "$work/m.graph" -o "$work/m.pt2" --plugin "$work/libthreshold.so" --no-cache > /dev/null
"$toroid" info "$work/m.pt2" > "$work/info.txt"
expect "plug-in  threshold::soft_pairs" "$work/info.txt"
"$toroid" run "$work/m.pt2" --plugin "$work/libthreshold.so" --random --size s0=7 > "$work/run.txt"
expect "out0 f32[7, 6]" "$work/run.txt"
TOROID_PLUGINS="$work/libthreshold.so" "$toroid" run "$work/m.pt2" --random > "$work/run.txt"
expect "out0 f32[5, 6]" "$work/run.txt"

refused "calls \`threshold::soft_pairs\` of a plug-in that is not loaded" "$toroid" run "$work/m.pt2" --random
refused "cannot load the plug-in \`$work/none.so\`" "$toroid" run "$work/m.pt2" --random --plugin "$work/none.so"
refused "cannot load the plug-in" "$toroid" compile --from=graph "$work/m.graph" -o "$work/m.pt2" --plugin "$work/none.so"

# The kernel's own failure.
sed 's/0\.25/-1.0/' "$work/m.graph" > "$work/negative.graph"
"$toroid" compile --from=graph "$work/negative.graph" -o "$work/negative.pt2" --plugin "$work/libthreshold.so" > /dev/null
refused "soft_pairs: the limit is negative" "$toroid" run "$work/negative.pt2" --random --plugin "$work/libthreshold.so"

# No plug-ins at all, and bad ones.
echo 'int nothing;' > "$work/empty.c"
plugin "$work/empty.c" "$work/libempty.so"
refused "is no plug-in: it exports no \`toroid_plugin\`" "$toroid" run "$work/m.pt2" --random --plugin "$work/libempty.so"
sed 's/TOROID_PLUGIN_MAJOR, TOROID_PLUGIN_MINOR/9, 0/' "$source/examples/plugin/threshold.c" > "$work/newer.c"
plugin "$work/newer.c" "$work/libnewer.so"
refused "speaks interface 9, this Toroid 1" "$toroid" run "$work/m.pt2" --random --plugin "$work/libnewer.so"
cp "$work/libthreshold.so" "$work/libagain.so"
refused "both have \`threshold::soft_pairs\`" "$toroid" run "$work/m.pt2" --random --plugin "$work/libthreshold.so" --plugin "$work/libagain.so"
sed 's/float limit=0.5/str limit/' "$source/examples/plugin/threshold.c" > "$work/text.c"
plugin "$work/text.c" "$work/libtext.so"
refused "of a kind that plug-ins cannot take" "$toroid" compile --from=graph "$work/m.graph" -o "$work/m.pt2" --plugin "$work/libtext.so"
