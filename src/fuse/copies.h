// Copies between devices, and those that template kernels want: an operand whose memory no template can walk is first
// brought into one that it can.
#pragma once
#include "fuse/program.h"

namespace toroid::fuse {

// Every tensor that is read on another device gets a copy there, a tensor of its own, and nothing else crosses devices.
void separate_devices(Loops& loops);
// Is this tensor such a copy?
bool copies_device(const Loops& loops, TensorId id);
// Adds the copy before the reader and lets the reader read it; tensor ids from the reader on move up by one.
void make_copy(Loops& loops, const CopyWish& wish);

}  // namespace toroid::fuse
