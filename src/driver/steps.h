// The steps of the pipeline: each takes what its predecessor left in `work.product` and leaves its own result there.
#pragma once
#include "driver/pipeline.h"

namespace toroid::driver {

Status import_step(Work& work);
Status lower_step(Work& work);
Status fuse_step(Work& work);

}  // namespace toroid::driver
