"""libtoroid_rt through ctypes, for benchmarks: loads a package and calls it on numpy arrays without copies."""
import ctypes
import os

import numpy as np

# Numbers of toroid_dtype.
DTYPES = {"uint8": 0, "int8": 1, "int16": 2, "int32": 3, "int64": 4, "float16": 5, "float32": 6, "float64": 7,
          "complex64": 9, "complex128": 10, "bool": 11}


BFLOAT16 = 15  # numpy has none


class Tensor(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_void_p), ("sizes", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("rank", ctypes.c_int32), ("dtype", ctypes.c_int32),
                ("device_type", ctypes.c_int32), ("device_index", ctypes.c_int32), ("owner", ctypes.c_void_p)]


def aligned(like):
    """an array at a cache line's boundary, where allocators of tensors put theirs, with the strides of another"""
    room = np.empty(like.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    dense = room[start:start + like.nbytes].view(like.dtype)
    return np.lib.stride_tricks.as_strided(dense, like.shape, like.strides)


class Package:
    """library: the folder of libtoroid_rt.so. outputs: arrays of the right sizes, which calls write to. bf16: arrays of
    int16 hold bfloat16."""

    def __init__(self, library, path, inputs, outputs, threads, bf16=False):
        self.dtypes = DTYPES | {"int16": BFLOAT16} if bf16 else DTYPES
        self.lib = ctypes.CDLL(os.path.join(library, "libtoroid_rt.so"))
        self.lib.toroid_last_error.restype = ctypes.c_char_p
        self.model = ctypes.c_void_p()
        self._check(self.lib.toroid_load(path.encode(), None, ctypes.byref(self.model)))
        self._check(self.lib.toroid_set_threads(self.model, ctypes.c_int32(threads)))
        self.inputs = [np.ascontiguousarray(a) for a in inputs]
        self.outputs = [aligned(a) for a in outputs]
        self.c_inputs, self.c_outputs = self._tensors(self.inputs), self._tensors(self.outputs)

    def _check(self, status):
        if status:
            raise RuntimeError(self.lib.toroid_last_error().decode())

    def _tensors(self, arrays):
        out = (Tensor * len(arrays))()
        for tensor, array in zip(out, arrays):
            tensor.size = ctypes.sizeof(Tensor)
            tensor.data = array.ctypes.data
            tensor.sizes = (ctypes.c_int64 * max(array.ndim, 1))(*array.shape)
            tensor.strides = (ctypes.c_int64 * max(array.ndim, 1))(*(s // array.itemsize for s in array.strides))
            tensor.rank = array.ndim
            tensor.dtype = self.dtypes[array.dtype.name]
        return out

    def __call__(self):
        self._check(self.lib.toroid_run(self.model, self.c_inputs, ctypes.c_size_t(len(self.inputs)), self.c_outputs,
                                        ctypes.c_size_t(len(self.outputs))))
        return self.outputs
