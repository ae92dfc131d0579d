// What is linked into every model beside its own code, compiled once when Toroid was built.
#pragma once
#include <string_view>

namespace toroid::driver {

// The AOTInductor interface over the model contract: an ELF object.
std::string_view model_abi_object();
// The functions of runtime/library: an ELF object for the models that call them.
std::string_view model_library_object();
// The version script that exports that interface and nothing else.
std::string_view model_version_script();

}  // namespace toroid::driver
