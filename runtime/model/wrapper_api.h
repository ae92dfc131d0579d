// What a generated wrapper may call: small helpers that the boilerplate linked into every model provides. Plain C,
// hidden, so that the wrapper can repeat these lines without including anything.
#pragma once
#include "../model_abi.h"

#ifdef __cplusplus
extern "C" {
#endif

// 0, or 1 with the reason in `e`: dtype, rank and device of input `index`, and that it has data where it has elements.
int td_check_input(const TdView* in, int index, const char* name, int dtype, int rank, TdError* e);
// input 0 (`x`): size 0 is 4097, must be in 1..4096      (expected: "1..4096", "64", "2*s0" or any text after "must
// be") Always 1.
int td_bad_size(TdError* e, int index, const char* name, int dim, int64_t got, const char* expected);
// The same for a size that another size fixes: size 1 is 7, must be 2*s0, which is 8 here. Always 1.
int td_bad_number(TdError* e, int index, const char* name, int dim, int64_t got, const char* expected, int64_t value);

// Leaves code and printf-like text in `e`; returns code.
int td_fail(TdError* e, int code, const char* format, ...) __attribute__((format(printf, 3, 4)));
// Copies a strided tensor into contiguous memory; elements of 1, 2, 4, 8 or 16 bytes.
void td_copy_strided(void* dst, const TdView* src, int64_t element_bytes);
// 1 when its elements lie in order without gaps (dims of size 1 may have any stride).
int td_is_contiguous(const TdView* view);

#ifdef __cplusplus
}
#endif
