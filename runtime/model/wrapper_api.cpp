// The helpers of wrapper_api.h: checks of inputs, messages, contiguous copies.
#include "wrapper_api.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "../recipe.h"
#include "../strided.h"

using namespace toroid::runtime;

extern "C" {

int td_fail(TdError* e, int code, const char* format, ...) {
  e->code = code;
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(e->text, sizeof e->text, format, arguments);
  va_end(arguments);
  return code;
}

int td_check_input(const TdView* in, int index, const char* name, int dtype, int rank, TdError* e) {
  if (in->device_type != 0)
    return td_fail(e, 1, "input %d (`%s`): is on device %d, must be on the CPU", index, name, in->device_type);
  if (in->dtype != dtype) {
    const std::string_view got = recipe_dtype_name(in->dtype), want = recipe_dtype_name(dtype);
    if (got.empty())
      return td_fail(e, 1, "input %d (`%s`): dtype is number %d, must be %s", index, name, in->dtype, want.data());
    return td_fail(e, 1, "input %d (`%s`): dtype is %s, must be %s", index, name, got.data(), want.data());
  }
  if (in->rank != rank) return td_fail(e, 1, "input %d (`%s`): rank is %d, must be %d", index, name, in->rank, rank);
  if (!in->data && element_count(in->sizes, in->rank) != 0)
    return td_fail(e, 1, "input %d (`%s`): its data is a null pointer", index, name);
  return 0;
}

int td_bad_size(TdError* e, int index, const char* name, int dim, int64_t got, const char* expected) {
  const char* in = std::strstr(expected, "..") && std::strncmp(expected, "in ", 3) != 0 ? "in " : "";
  return td_fail(e, 1, "input %d (`%s`): size %d is %lld, must be %s%s", index, name, dim, static_cast<long long>(got),
                 in, expected);
}

int td_bad_number(TdError* e, int index, const char* name, int dim, int64_t got, const char* expected, int64_t value) {
  return td_fail(e, 1, "input %d (`%s`): size %d is %lld, must be %s, which is %lld here", index, name, dim,
                 static_cast<long long>(got), expected, static_cast<long long>(value));
}

int td_is_contiguous(const TdView* view) { return contiguous(view->sizes, view->strides, view->rank); }

void td_copy_strided(void* dst, const TdView* src, int64_t element_bytes) {
  int64_t strides[64];
  if (src->rank > 64) return;
  contiguous_strides(src->sizes, src->rank, strides);
  copy_strided(static_cast<char*>(dst), strides, static_cast<const char*>(src->data), src->strides, src->sizes,
               src->rank, element_bytes);
}

}  // extern "C"
