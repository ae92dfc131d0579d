// The boilerplate and library objects and the version script, put in by the assembler: the library needs no files
// beside itself.
#include "driver/model_parts.h"

#define TOROID_EMBED(name, file)     \
  asm(".section .rodata\n"           \
      ".balign 16\n"                 \
      ".hidden " #name               \
      "_begin\n"                     \
      ".hidden " #name               \
      "_end\n"                       \
      ".globl " #name                \
      "_begin\n"                     \
      ".globl " #name "_end\n" #name \
      "_begin:\n"                    \
      ".incbin \"" file "\"\n" #name \
      "_end:\n"                      \
      ".byte 0\n"                    \
      ".previous\n");                \
  extern "C" __attribute__((visibility("hidden"))) const char name##_begin[], name##_end[];

TOROID_EMBED(toroid_model_abi, TOROID_MODEL_ABI_FILE)
TOROID_EMBED(toroid_model_library, TOROID_MODEL_LIBRARY_FILE)
TOROID_EMBED(toroid_model_map, TOROID_MODEL_MAP_FILE)

namespace toroid::driver {

std::string_view model_abi_object() { return {toroid_model_abi_begin, toroid_model_abi_end}; }
std::string_view model_library_object() { return {toroid_model_library_begin, toroid_model_library_end}; }
std::string_view model_version_script() { return {toroid_model_map_begin, toroid_model_map_end}; }

}  // namespace toroid::driver
