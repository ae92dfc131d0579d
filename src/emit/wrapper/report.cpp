// The model's report: what `toroid info` and `toroid bench` read.
#include "emit/wrapper/wrapper.h"

namespace toroid::emit {

std::string report_json(const Plan& plan, const std::vector<KernelSource>& kernels) {
  const Schedule& schedule = plan.schedule;
  auto json = [](std::string_view text) {
    std::string out = "\"";
    for (char ch : text) {
      if (ch == '"' || ch == '\\') out += '\\';
      if (static_cast<unsigned char>(ch) < 0x20)
        append(out, "\\u{:04x}", static_cast<unsigned>(ch));
      else
        out += ch;
    }
    return out + "\"";
  };
  std::string out = "{\"symbols\":[";
  for (size_t i = 0; i < schedule.loops.symbols.size(); ++i) {
    const SymbolInfo& symbol = schedule.loops.symbols[i];
    append(out, "{}{{\"name\":{},\"low\":{}", i ? "," : "", json(symbol.name), symbol.low);
    if (symbol.high != INT64_MAX) append(out, ",\"high\":{}", symbol.high);
    if (symbol.hint) append(out, ",\"hint\":{}", *symbol.hint);
    out += "}";
  }
  out += "],\"kernels\":[";
  // A call, then the kernels of its programs.
  each_kernel(plan, kernels, [&](const Kernel& kernel, const KernelSource& source) {
    const char* kinds[] = {"loops", "matmul", "conv", "attention", "call", "routine"};
    append(out, "{}{{\"name\":{},\"kind\":\"{}\",\"note\":{},\"source\":{},\"symbol\":{},\"flops\":{},\"bytes\":{}}}",
           out.back() == '[' ? "" : ",", json(kernel.name), kinds[kernel.work.index()], json(kernel.note),
           json(kernel.where.text()), json(source.symbol), json(to_string(kernel.flops)),
           json(to_string(kernel.bytes)));
  });
  append(out, "],\"intermediate_bytes\":{},\"bytes_moved\":{},\"peak_bytes\":{},\"lower_bound_bytes\":{}}}",
         plan.intermediate_bytes, plan.bytes_moved, plan.peak_bytes, plan.lower_bound_bytes);
  return out;
}

}  // namespace toroid::emit
