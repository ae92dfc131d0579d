// PyTorch's C functions for tensors, found in the libtorch of the process: a model links with nothing of PyTorch.
#pragma once
#include <cstdint>
#include <string>

#include "../model_abi.h"

namespace toroid::model {

// A tensor of PyTorch behind a pointer that nothing here looks inside.
using Handle = struct TensorOpaque*;

struct Torch {
  int32_t (*get_data_ptr)(Handle, void**);
  int32_t (*get_dim)(Handle, int64_t*);
  int32_t (*get_sizes)(Handle, int64_t**);
  int32_t (*get_strides)(Handle, int64_t**);
  int32_t (*get_dtype)(Handle, int32_t*);
  int32_t (*get_device_type)(Handle, int32_t*);
  int32_t (*get_device_index)(Handle, int32_t*);
  int32_t (*empty_strided)(int64_t rank, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                           int32_t device_type, int32_t device_index, Handle*);
  int32_t (*create_tensor_from_blob)(void*, int64_t rank, const int64_t* sizes, const int64_t* strides, int64_t offset,
                                     int32_t dtype, int32_t device_type, int32_t device_index, Handle*);
  int32_t (*new_tensor_handle)(Handle, Handle*);
  int32_t (*delete_tensor_object)(Handle);
  // Absent from older versions: then nullptr, and the model does without.
  int32_t (*get_layout)(Handle, int32_t*);
  int32_t (*parallel_for)(int64_t begin, int64_t end, int64_t grain, void (*)(int64_t, int64_t, void*), void*);
  uint32_t (*get_num_threads)(uint32_t*);

  // nullptr, with the reason in `error`, when no libtorch is loaded or it lacks a function.
  static const Torch* find(std::string& error);

  // False when the handle is no plain strided tensor; `view` borrows from it.
  bool view_of(Handle handle, TdView& view) const;
};

}  // namespace toroid::model
