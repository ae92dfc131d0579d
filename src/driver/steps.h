// The steps of the pipeline: each takes what its predecessor left in `work.product` and leaves its own result there.
#pragma once
#include "driver/pipeline.h"

namespace toroid::driver {

Status import_step(Work& work);
Status lower_step(Work& work);
Status fold_step(Work& work);
Status fuse_step(Work& work);
Status plan_step(Work& work);
Status emit_step(Work& work);
Status build_step(Work& work);
Status package_step(Work& work);

}  // namespace toroid::driver
