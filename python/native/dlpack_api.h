// The parts of DLPack 1.x that are used: DLTensor, and the C exchange API that torch.Tensor offers (from torch 2.11).
// Layouts as in the DLPack specification; a test of the call path holds them against PyTorch's.
#pragma once
#include <cstdint>

namespace toroid::python {

struct DlDevice {
  int32_t type, id;
};
struct DlDtype {
  uint8_t code, bits;
  uint16_t lanes;
};
struct DlTensor {
  void* data;
  DlDevice device;
  int32_t rank;
  DlDtype dtype;
  int64_t* sizes;
  int64_t* strides;
  uint64_t byte_offset;
};
struct DlExchangeApi {
  uint32_t major, minor;
  void* previous;
  void* allocate;
  void* export_owned;
  void* import_owned;
  // Borrows: no allocation; sizes and strides point into the tensor. 0, or -1 with a Python error set.
  int (*borrow)(void* tensor, DlTensor* out);
  void* current_stream;
};

enum : int32_t { dl_cpu = 1, dl_cuda = 2 };
enum : uint8_t { dl_int = 0, dl_uint = 1, dl_float = 2, dl_bfloat = 4, dl_complex = 5, dl_bool = 6 };

}  // namespace toroid::python
