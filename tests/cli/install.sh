# What `cmake --install` leaves is enough: the program runs from there, and the examples build against it by find_package.
#   install.sh build/bin/toroid SOURCE_FOLDER
set -euo pipefail
build=$(dirname "$(dirname "$(readlink -f "$1")")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/there" > "$work/log"
"$work/there/bin/toroid" --version
cmake -G Ninja -S "$2/examples" -B "$work/examples" -DCMAKE_PREFIX_PATH="$work/there" -DCMAKE_BUILD_TYPE=Release > "$work/log"
cmake --build "$work/examples" > "$work/log" || { cat "$work/log"; exit 1; }
"$work/examples/compile_and_run" "$2/examples/digits/digits.pt2"
# The runtime: at most 1.5 MB stripped, on libc, libm and libstdc++ alone.
strip -o "$work/rt.so" "$(readlink -f "$work/there/lib/libtoroid_rt.so")"
size=$(stat -c %s "$work/rt.so")
echo "libtoroid_rt: $size bytes stripped"
[ "$size" -le 1500000 ]
needs=$(readelf -d "$work/rt.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -Ev '^(libc\.so|libm\.so|libstdc\+\+\.so|libgcc_s\.so|ld-linux)' || true)
[ -z "$needs" ] || { echo "libtoroid_rt needs $needs"; exit 1; }
