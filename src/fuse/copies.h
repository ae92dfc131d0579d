// Copies that template kernels want: an operand whose memory no template can walk is first brought into one that it
// can.
#pragma once
#include "fuse/program.h"

namespace toroid::fuse {

// Adds the copy before the reader and lets the reader read it; tensor ids from the reader on move up by one.
void make_copy(Loops& loops, const CopyWish& wish);

}  // namespace toroid::fuse
