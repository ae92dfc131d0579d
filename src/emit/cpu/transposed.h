// Functions of a matrix product whose B lies as [n][k]: a panel of it is turned into words [k][n], or few rows of A
// meet it in dot products along k.
#pragma once
#include "emit/cpu/tile.h"

namespace toroid::emit {

// NAME_pack(b, ldb, cols, k, group, o): rows of [n][k] (cols of them, beyond that the last one again) as a panel of
// words [k][64], in parts of `panel` columns. `column_x`: where column x lies in it.
std::string pack_function(const Tile& tile, int64_t panel, const std::string& column_x);

// NAME(a, lda, b, ldb, cols, k, t): `rows` x (lanes / rows) dot products along k into t[i * 64 + x]. `cut`: in blocks
// of `sum_block` for each lane.
std::string dot_function(const Tile& tile, const std::string& name, int rows, bool cut);

}  // namespace toroid::emit
