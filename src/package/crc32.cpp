// CRC-32 by carry-less multiplication where the CPU has it; zlib's otherwise, and for ends.
#include "package/crc32.h"

#include <immintrin.h>
#include <zlib.h>

namespace toroid::package {
namespace {

constexpr size_t block = 64;

// Gopal, Ozturk et al., "Fast CRC computation for generic polynomials using PCLMULQDQ": a 128-bit remainder moves ahead
// by d bits through multiplication with x^d mod P; four of them go side by side. The constants are x^d mod P, bits
// reversed, for P = 0x104c11db7 and d = 4*128 +- 32, 128 +- 32, 64; then P and floor(x^64 / P) for Barrett's reduction.
// `bytes` is a positive multiple of 64; crc is the remainder so far, not inverted.
__attribute__((target("pclmul,sse4.1"))) uint32_t crc32_blocks(uint32_t crc, const char* data, size_t bytes) {
  const __m128i by_512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4), by_128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
  const __m128i by_64 = _mm_set_epi64x(0, 0x163cd6124), barrett = _mm_set_epi64x(0x1f7011641, 0x1db710641);
  const __m128i low_halves = _mm_setr_epi32(-1, 0, -1, 0);
  auto load = [&](size_t i) __attribute__((target("pclmul,sse4.1"), always_inline)) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(data) + i);
  };
  auto ahead = [](__m128i x, __m128i by) __attribute__((target("pclmul,sse4.1"), always_inline)) {
    return _mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11));
  };
  __m128i a = _mm_xor_si128(load(0), _mm_cvtsi32_si128(static_cast<int>(crc))), b = load(1), c = load(2), d = load(3);
  for (data += block, bytes -= block; bytes > 0; data += block, bytes -= block) {
    a = _mm_xor_si128(ahead(a, by_512), load(0));
    b = _mm_xor_si128(ahead(b, by_512), load(1));
    c = _mm_xor_si128(ahead(c, by_512), load(2));
    d = _mm_xor_si128(ahead(d, by_512), load(3));
  }
  b = _mm_xor_si128(b, ahead(a, by_128));
  c = _mm_xor_si128(c, ahead(b, by_128));
  __m128i x = _mm_xor_si128(d, ahead(c, by_128));
  x = _mm_xor_si128(_mm_srli_si128(x, 8), _mm_clmulepi64_si128(x, by_128, 0x10));
  x = _mm_xor_si128(_mm_srli_si128(x, 4), _mm_clmulepi64_si128(_mm_and_si128(x, low_halves), by_64, 0x00));
  __m128i q = _mm_and_si128(_mm_clmulepi64_si128(_mm_and_si128(x, low_halves), barrett, 0x10), low_halves);
  x = _mm_xor_si128(x, _mm_clmulepi64_si128(q, barrett, 0x00));
  return static_cast<uint32_t>(_mm_extract_epi32(x, 1));
}

}  // namespace

uint32_t crc32(const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  uint32_t crc = 0;
  if (const size_t blocks = bytes / block * block;
      blocks > 0 && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
    crc = ~crc32_blocks(~crc, at, blocks);
    at += blocks, bytes -= blocks;
  }
  return static_cast<uint32_t>(::crc32_z(crc, reinterpret_cast<const Bytef*>(at), bytes));
}

uint32_t crc32_joined(uint32_t first, uint32_t second, uint64_t second_bytes) {
  return static_cast<uint32_t>(::crc32_combine(first, second, static_cast<z_off_t>(second_bytes)));
}

}  // namespace toroid::package
