# The two example programs and the demo, as a user runs them.
#   examples.sh build/bin/toroid SOURCE_FOLDER
set -euo pipefail
toroid=$1
bin=$(dirname "$toroid")
digits=$2/examples/digits
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$bin/compile_and_run" "$digits/digits.pt2" | tee "$work/cpp.txt"
grep -qx "it reads a 4" "$work/cpp.txt"
"$toroid" compile "$digits/digits.pt2" -o "$work/digits.toroid.pt2"
"$bin/run_package" "$work/digits.toroid.pt2" | tee "$work/c.txt"
grep -qx "it reads a 4" "$work/c.txt"
bash "$2/examples/demo.sh" "$toroid" > "$work/demo.txt"
read -r -a drawn <<< "$(sed -n 's/^digits drawn: *//p' "$work/demo.txt")"
read -r -a read <<< "$(sed -n 's/^digits read: *//p' "$work/demo.txt")"
[ "${#drawn[@]}" -eq 12 ]
echo "drawn ${drawn[*]}, read ${read[*]}"
# The same input and options give the same bytes; one and two threads give the same bits.
"$toroid" compile "$digits/digits.pt2" -o "$work/again.toroid.pt2" --no-cache > /dev/null
cmp "$work/digits.toroid.pt2" "$work/again.toroid.pt2"
for threads in 1 2; do
  "$toroid" run "$work/digits.toroid.pt2" --inputs "$digits/inputs.npz" --outputs "$work/$threads.npz" --threads $threads
done
cmp "$work/1.npz" "$work/2.npz"
"$toroid" verify "$work/digits.toroid.pt2"
size=$("$toroid" info "$work/digits.toroid.pt2" --json | python3 -c "import json, sys; print(json.load(sys.stdin)['symbols'][0]['name'])")
"$toroid" bench "$work/digits.toroid.pt2" --json --runs 3 --random --size "$size=3" > "$work/bench.json"
python3 - "$work/bench.json" <<'PYTHON'
import json, sys
bench = json.load(open(sys.argv[1]))
assert bench["runs"] == 3 and 0 < bench["min_ms"] <= bench["median_ms"] <= bench["p99_ms"], bench
assert bench["kernels"] and bench["gflops"] > 0 and bench["gbs"] > 0, bench
assert all(0 <= k["min_ms"] <= k["median_ms"] <= k["p99_ms"] for k in bench["kernels"]), bench
PYTHON
