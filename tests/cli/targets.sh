# Every target that is accepted compiles, whatever features it has beyond its base: targets.sh TOROID ROOT
set -euo pipefail
toroid=$1 root=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TOROID_CACHE=$folder/cache
for target in x86-64 x86-64+avx x86-64-v2+f16c x86-64-v2+avx2 x86-64-v3+avx512f x86-64-v3+avx512bw+avx512vl x86-64-v3+vnni \
              x86-64-v4+vnni+bf16; do
  "$toroid" compile "$root/examples/digits/digits.pt2" --target=$target -o "$folder/digits.$target.pt2" >"$folder/said" 2>&1 ||
    { echo "$target does not compile:"; cat "$folder/said"; exit 1; }
  # Where this machine has it, the results are PyTorch's.
  if "$toroid" run "$folder/digits.$target.pt2" --inputs "$root/examples/digits/inputs.npz" --outputs "$folder/out.npz" 2>"$folder/said"; then
    python3 "$root/examples/compare.py" "$folder/out.npz" "$root/examples/digits/outputs.npz" >/dev/null || { echo "$target is wrong"; exit 1; }
  else
    grep -q "target" "$folder/said" || { cat "$folder/said"; exit 1; }
  fi
done
