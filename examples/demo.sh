#!/usr/bin/env bash
# Compiles the digits model, runs it, compares with what PyTorch said, shows times. Needs no PyTorch.
#   examples/demo.sh build/bin/toroid
set -euo pipefail
toroid=$(readlink -f "$1")
examples=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

show() { printf '\n$ %s\n' "${*//$work\//}"; }
run() { show "toroid $*"; "$toroid" "$@"; }

echo "A network of convolutions and attention that reads drawn digits, exported by PyTorch (examples/digits)."
run compile "$examples/digits/digits.pt2" -o "$work/digits.toroid.pt2"
run info "$work/digits.toroid.pt2"
run run "$work/digits.toroid.pt2" --inputs "$examples/digits/inputs.npz" --outputs "$work/out.npz"
show compare out.npz with PyTorch\'s outputs.npz
python3 "$examples/compare.py" "$work/out.npz" "$examples/digits/outputs.npz" --labels "$examples/digits/labels.txt"
run bench "$work/digits.toroid.pt2" --inputs "$examples/digits/inputs.npz" --seconds 1
