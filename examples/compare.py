"""Compares two .npz files of outputs: the largest difference over the largest magnitude must be below 1e-4. With --labels,
also says which digit each row of out0 names. Plain Python: needs neither numpy nor PyTorch.

  python3 compare.py got.npz expected.npz [--labels labels.txt]
"""
import argparse
import ast
import struct
import sys
import zipfile

FORMATS = {"<f4": "f", "<f8": "d", "<i8": "q", "<i4": "i", "|b1": "?"}


def read_npz(path):
    """name -> (sizes, flat values)"""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            start = 10 if data[6] == 1 else 12
            length = int.from_bytes(data[8:start], "little")
            header = ast.literal_eval(data[start : start + length].decode("latin1"))
            letter = FORMATS[header["descr"]]
            body = data[start + length :]
            values = struct.unpack(f"<{len(body) // struct.calcsize(letter)}{letter}", body)
            arrays[name.removesuffix(".npy")] = (header["shape"], values)
    return arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("got")
    parser.add_argument("expected")
    parser.add_argument("--labels")
    args = parser.parse_args()
    got, expected = read_npz(args.got), read_npz(args.expected)
    if got.keys() != expected.keys():
        sys.exit(f"error: outputs {sorted(got)}, expected {sorted(expected)}")
    worst = 0.0
    for name, (sizes, values) in expected.items():
        if got[name][0] != sizes:
            sys.exit(f"error: {name} has sizes {got[name][0]}, expected {sizes}")
        scale = max(abs(v) for v in values)
        error = max(abs(a - b) for a, b in zip(got[name][1], values)) / scale
        worst = max(worst, error)
        print(f"{name} {list(sizes)}: largest difference {error:.1e} of the largest value")
        # A NaN compares false with everything.
        if not error < 1e-4:
            sys.exit("error: that is too much")
    if args.labels:
        (rows, classes), values = got["out0"]
        said = [max(range(classes), key=lambda c: values[r * classes + c]) for r in range(rows)]
        print("digits drawn:", open(args.labels).read().strip())
        print("digits read: ", *said)


if __name__ == "__main__":
    main()
