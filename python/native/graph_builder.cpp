// toroid.GraphBuilder as a Python class, call by call.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "convert.h"

namespace toroid::python {

namespace {

using Builder = GraphBuilder;
using namespace nb::literals;

Builder::Source to_source(nb::handle value) {
  if (value.is_none()) return {};
  const nb::tuple row = nb::cast<nb::tuple>(value);
  return {nb::cast<std::string>(row[0]), nb::cast<std::string>(row[1]), nb::cast<int>(row[2])};
}

std::vector<Builder::Claim> to_claims(nb::handle values) {
  std::vector<Builder::Claim> claims;
  if (values.is_none()) return claims;
  for (nb::handle value : values) {
    Builder::Claim claim;
    if (value.is_none()) {
      claims.push_back(std::move(claim));
      continue;
    }
    const nb::tuple row = nb::cast<nb::tuple>(value);
    claim.dtype = nb::cast<std::string>(row[0]);
    claim.sizes = to_sizes(row[1]);
    if (row.size() > 2) claim.strides = to_optional_sizes(row[2]);
    if (row.size() > 3 && !row[3].is_none()) claim.offset = Builder::Size(to_size(row[3]));
    claims.push_back(std::move(claim));
  }
  return claims;
}

Builder::WeightKind to_weight_kind(const std::string& name) {
  if (name == "parameter") return Builder::WeightKind::parameter;
  if (name == "buffer") return Builder::WeightKind::buffer;
  if (name == "constant") return Builder::WeightKind::constant;
  throw nb::value_error("a weight's kind is parameter, buffer or constant");
}

void bind_values(nb::module_& module) {
  nb::class_<Builder::Tensor>(module, "Tensor", "A tensor of the program, of the builder that gave it.")
      .def_ro("index", &Builder::Tensor::index)
      .def("__eq__", [](Builder::Tensor a, Builder::Tensor b) { return a.index == b.index; })
      .def("__hash__", [](Builder::Tensor t) { return t.index; })
      .def("__repr__", [](Builder::Tensor t) { return "Tensor(" + std::to_string(t.index) + ")"; });
  nb::class_<Builder::Size>(module, "Size", "A size: a number, or an expression over declared symbols.")
      .def("__init__", [](Builder::Size* self, nb::handle value) { new (self) Builder::Size(to_size(value)); })
      .def_prop_ro(
          "text", [](const Builder::Size& s) { return s.expression.empty() ? std::to_string(s.number) : s.expression; })
      .def("__repr__", [](const Builder::Size& s) {
        return s.expression.empty() ? "Size(" + std::to_string(s.number) + ")" : "Size('" + s.expression + "')";
      });
  nb::class_<Builder::Dtype>(module, "Dtype", "An element type by its short name: f32, i64, bool, …")
      .def("__init__", [](Builder::Dtype* self, std::string name) { new (self) Builder::Dtype{std::move(name)}; })
      .def_ro("name", &Builder::Dtype::name);
  nb::class_<Builder::Format>(module, "Format", "contiguous, channels_last, channels_last_3d or preserve")
      .def("__init__", [](Builder::Format* self, std::string name) { new (self) Builder::Format{std::move(name)}; })
      .def_ro("name", &Builder::Format::name);
  nb::class_<Builder::Place>(module, "Place", "A device: cpu, cuda:1")
      .def("__init__", [](Builder::Place* self, std::string device) { new (self) Builder::Place{std::move(device)}; })
      .def_ro("device", &Builder::Place::device);
  nb::class_<Builder::Program>(module, "Program", "A program that an op of control flow runs.")
      .def_ro("index", &Builder::Program::index);
}

}  // namespace

void bind_graph_builder(nb::module_& module) {
  bind_values(module);
  module.def(
      "hash_memory",
      [](uintptr_t address, size_t bytes) {
        XXH128_hash_t hash;
        {
          const nb::gil_scoped_release released;
          hash = XXH3_128bits(reinterpret_cast<const void*>(address), bytes);
        }
        return nb::make_tuple(hash.high64, hash.low64);
      },
      "address"_a, "bytes"_a, "The XXH3 of memory, 128 bits as two ints.");
  nb::class_<Builder>(module, "GraphBuilder",
                      "Puts a program together call by call; see include/toroid/graph_builder.h.")
      .def(nb::init<std::string>(), "name"_a = "model")
      .def(
          "symbol",
          [](Builder& b, const std::string& name, int64_t low, std::optional<int64_t> high, std::optional<int64_t> hint,
             bool from_data) { done_or_raise(b.symbol(name, low, high.value_or(INT64_MAX), hint, from_data)); },
          "name"_a, "low"_a = 0, "high"_a = nb::none(), "hint"_a = nb::none(), "from_data"_a = false,
          "Declares a size symbol with its inclusive range; before its first use.")
      .def(
          "input",
          [](Builder& b, const std::string& name, const std::string& dtype, nb::handle sizes, nb::handle strides,
             const std::string& device, int64_t offset) {
            return value_or_raise(b.input(name, dtype, to_sizes(sizes), to_optional_sizes(strides), device, offset));
          },
          "name"_a, "dtype"_a, "sizes"_a, "strides"_a = nb::none(), "device"_a = "cpu", "offset"_a = 0,
          "The next input, a tensor that begins `offset` elements into its storage.")
      .def(
          "size_input",
          [](Builder& b, const std::string& name, nb::handle size) {
            done_or_raise(b.size_input(name, to_size(size)));
          },
          "name"_a, "size"_a, "The next input, an int that is a size.")
      .def(
          "constant_input",
          [](Builder& b, const std::string& name, nb::handle value) {
            done_or_raise(b.constant_input(name, to_argument(value)));
          },
          "name"_a, "value"_a.none(), "The next input, a Python value that the program was specialised for.")
      .def(
          "storage",
          [](Builder& b, uintptr_t address, int64_t nbytes, nb::handle owner, bool copy) {
            Builder::Bytes bytes{reinterpret_cast<const void*>(address), nbytes, keep(owner)};
            return value_or_raise(b.storage(bytes, copy));
          },
          "address"_a, "nbytes"_a, "owner"_a = nb::none(), "copy"_a = false,
          "Bytes that weights are views of; `owner` is kept alive as long as they are used.")
      .def(
          "weight",
          [](Builder& b, const std::string& name, const std::string& dtype, nb::handle sizes, int32_t storage,
             const std::string& kind, bool persistent, nb::handle strides, int64_t offset) {
            Builder::WeightOptions options;
            options.kind = to_weight_kind(kind);
            options.persistent = persistent;
            options.strides = to_optional_sizes(strides);
            options.offset = offset;
            return value_or_raise(b.weight(name, dtype, to_sizes(sizes), storage, options));
          },
          "name"_a, "dtype"_a, "sizes"_a, "storage"_a, "kind"_a = "parameter", "persistent"_a = true,
          "strides"_a = nb::none(), "offset"_a = 0, "A weight: a view of a storage; strides and offset in elements.")
      .def(
          "call",
          [](Builder& b, const std::string& op, nb::handle args, nb::dict kwargs, nb::handle source,
             nb::handle claims) {
            Builder::Arguments positional;
            for (nb::handle value : args) positional.push_back(to_argument(value));
            Builder::Keywords keywords;
            for (auto [name, value] : kwargs) keywords.emplace_back(nb::cast<std::string>(name), to_argument(value));
            return value_or_raise(b.call(op, positional, keywords, to_source(source), to_claims(claims)));
          },
          "op"_a, "args"_a = nb::tuple(), "kwargs"_a = nb::dict(), "source"_a = nb::none(), "claims"_a = nb::none(),
          "Calls an op by its full name (aten.add.Tensor); gives the list of results. source: (module, file, line); "
          "claims: [(dtype, sizes, strides or None) or None, …], what the results should be; None where one is "
          "missing.")
      .def(
          "program", [](Builder& b, const Builder& inner) { return value_or_raise(b.program(inner)); }, "inner"_a,
          "Takes the program of another builder, as an argument of a call of control flow.")
      .def(
          "assign",
          [](Builder& b, Builder::Tensor target, Builder::Tensor value) { done_or_raise(b.assign(target, value)); },
          "target"_a, "value"_a, "Overwrites `target`, and what it views, with the contents of `value`.")
      .def(
          "read_scalar",
          [](Builder& b, const std::string& name, Builder::Tensor tensor, int64_t low, std::optional<int64_t> high,
             nb::handle source) {
            done_or_raise(b.read_scalar(name, tensor, low, high.value_or(INT64_MAX), to_source(source)));
          },
          "name"_a, "tensor"_a, "low"_a = INT64_MIN, "high"_a = nb::none(), "source"_a = nb::none(),
          "Declares a symbol whose value is the tensor's only element, an integer or bool, read while the model runs.")
      .def(
          "autocast", [](Builder& b, const std::string& dtype) { done_or_raise(b.autocast(dtype)); }, "dtype"_a,
          "The calls from now on stand in a region of torch.autocast with this dtype (bf16, f16); empty: in none.")
      .def("refusals", &Builder::refusals, "start"_a = 0,
           "Why calls so far cannot be compiled, from the start-th refused one on; empty text: the op has no lowering.")
      .def(
          "check",
          [](Builder& b, const std::string& condition, const std::string& text) {
            done_or_raise(b.check(condition, text));
          },
          "condition"_a, "text"_a = "", "A condition on sizes that must hold at run time, such as `s0 % 8 == 0`.")
      .def(
          "output",
          [](Builder& b, Builder::Tensor tensor, const std::string& name) { done_or_raise(b.output(tensor, name)); },
          "tensor"_a, "name"_a = "", "The next output; its contents are those at the end of the program.")
      .def(
          "size_output",
          [](Builder& b, nb::handle size, const std::string& name) {
            done_or_raise(b.size_output(to_size(size), name));
          },
          "size"_a, "name"_a = "", "The next output, an int that is a size.")
      .def(
          "constant_output",
          [](Builder& b, nb::handle value, const std::string& name) {
            done_or_raise(b.constant_output(to_argument(value), name));
          },
          "value"_a.none(), "name"_a = "", "The next output, a Python value.")
      .def(
          "call_spec",
          [](Builder& b, const std::string& in_spec, const std::string& out_spec) {
            done_or_raise(b.call_spec(in_spec, out_spec));
          },
          "in_spec"_a, "out_spec"_a,
          "The nesting of the call's arguments and results, as torch.utils._pytree.treespec_dumps writes it.")
      .def(
          "type_text", [](const Builder& b, Builder::Tensor tensor) { return value_or_raise(b.type_text(tensor)); },
          "tensor"_a, "Such as `f32[s0, 64]`.")
      .def(
          "text", [](const Builder& b) { return value_or_raise(b.text()); },
          "The whole graph, as `toroid compile --to=graph` prints it.");
}

}  // namespace toroid::python
