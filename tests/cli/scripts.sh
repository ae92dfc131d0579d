# The scripts that help to find faults, and ./dev status, as a developer runs them.
#   scripts.sh build/bin/toroid SOURCE_FOLDER
set -euo pipefail
toroid=$1
source=$2
digits=$source/examples/digits
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# expect TEXT FILE: FILE has the line TEXT
expect() { grep -qxF -- "$1" "$2" || { printf 'no line `%s` in:\n%s\n' "$1" "$(cat "$2")"; exit 1; }; }

# bisect: a right model is said to be right; one that no omission mends names no step.
python3 "$source/scripts/bisect.py" "$digits/digits.pt2" --toroid "$toroid" --inputs "$digits/inputs.npz" \
  --expected "$digits/outputs.npz" > "$work/right.txt"
expect "with every step: right" "$work/right.txt"
if python3 "$source/scripts/bisect.py" "$digits/digits.pt2" --toroid "$toroid" --inputs "$digits/inputs.npz" \
     --expected "$digits/inputs.npz" > "$work/wrong.txt"; then
  echo "bisect exits with 0 for a wrong model"
  exit 1
fi
expect "guilty: none that can be left out" "$work/wrong.txt"
grep -q "^without fold: " "$work/wrong.txt"

# reduce: of five nodes, the one that cannot be lowered remains, fed by inputs.
cat > "$work/bad.graph" <<'GRAPH'
graph @m(%x: f32[4, 8], %y: f32[4, 8]) {
  %a = aten.add.Tensor(%x, %y) : f32[4, 8]
  %b = aten.relu.default(%a) : f32[4, 8]
  %c = aten.to_mkldnn.default(%b) : f32[4, 8]
  %d = aten.exp.default(%c) : f32[4, 8]
  %e = aten.neg.default(%d) : f32[4, 8]
  return %e
}
GRAPH
python3 "$source/scripts/reduce.py" "$work/bad.graph" "$toroid compile --from=graph --to=loops" > "$work/reduced.txt"
expect "1 statements" "$work/reduced.txt"
expect "  %c = aten.to_mkldnn.default(%b) : f32[4, 8]" "$work/bad.reduced.graph"
[ "$(grep -c '= aten' "$work/bad.reduced.graph")" -eq 1 ]
if grep -q "%x" "$work/bad.reduced.graph"; then
  echo "an unused input was left"
  exit 1
fi
if python3 "$source/scripts/reduce.py" "$work/bad.reduced.graph" true 2> "$work/said.txt"; then
  echo "reduce takes a command that does not fail"
  exit 1
fi
grep -q "the command does not fail" "$work/said.txt"

# replay: the same program twice gives the same texts; another target other ones.
python3 - "$source" "$toroid" "$digits/digits.pt2" <<'PYTHON'
import os, sys, tempfile
sys.path.insert(0, os.path.join(sys.argv[1], "scripts"))
import replay
build = os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[2])))
with tempfile.TemporaryDirectory() as work:
    same = replay.compare(build, build, sys.argv[3], work)
    assert same == 0, f"{same} texts differ between a program and itself"
PYTHON

# status: a row for each model of the zoo, from the numbers in docs/status.json.
mkdir "$work/docs"
cp "$source/docs/status.json" "$work/docs/"
python3 "$source/scripts/status.py" --docs "$work/docs"
for name in $(sed -n '/^@model/{n;s/def \(.*\)().*/\1/p}' "$source/tests/models/zoo.py"); do
  grep -q "^| $name | " "$work/docs/status.md" || { echo "no row for $name"; exit 1; }
done
