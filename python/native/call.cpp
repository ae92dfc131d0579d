// toroid._native.Call: one C call from Python arguments to Python results. Inputs are borrowed, the model asks for each
// output's memory while it runs without the GIL, and the results are PyTorch's own tensors, or NumPy arrays.
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>

#include <structmember.h>

#include <array>
#include <cstring>
#include <new>
#include <span>

#include "convert.h"
#include "model.h"
#include "torch_api.h"
#include "tree.h"

namespace toroid::python {

namespace {

using namespace nb::literals;

// A leaf of the arguments: what the program takes there.
struct Parameter {
  enum class Kind { tensor, size, constant };
  Kind kind = Kind::tensor;
  std::string what;  // input 0 (`x`)
  nb::object value;  // of a constant
  bool written = false;
  // Where results are views of the input: the strides that the program was compiled for.
  std::optional<GraphBuilder::Sizes> strides;
};

// A leaf of the results.
struct Result {
  enum class Kind { tensor, size, constant };
  Kind kind = Kind::tensor;
  nb::object value;               // of a constant
  int32_t slot = -1;              // of the runtime
  int32_t alias = -1;             // the parameter whose memory the result is
  GraphBuilder::Size offset = 0;  // then: where it begins, in elements
};

// A symbol's value: a size of an input, or an int input.
struct Symbol {
  std::string name;
  int32_t parameter;
  int32_t dim;  // -1: the int itself
};

struct Program {
  std::shared_ptr<Model> model;
  std::vector<Parameter> parameters;
  std::vector<Result> results;
  std::vector<Symbol> symbols;
  std::vector<int32_t> result_of_slot;
  bool nested = false;  // arguments and results are nested as the trees say
  bool trusted = false;
  nb::object seed;  // gives the seed of a run's random numbers, where the program draws any
  Tree args, kwargs, out;
};

// Arrays of a call: on the stack for the usual numbers of inputs and outputs.
template <class T>
class Row {
 public:
  explicit Row(size_t count) : items_(count <= few ? nullptr : new T[count]), count_(count) {}
  T& operator[](size_t i) { return begin()[i]; }
  T* begin() { return items_ ? items_.get() : here_.data(); }
  T* end() { return begin() + count_; }

 private:
  static constexpr size_t few = 8;
  std::array<T, few> here_{};
  std::unique_ptr<T[]> items_;
  size_t count_;
};

// One output while a run is under way.
struct Output {
  TorchApi::Handle handle = nullptr;  // torch's
  void* block = nullptr;              // ours, for NumPy: sizes, strides, padding, data
  void* data = nullptr;
  int64_t number = 0;
  std::vector<int64_t> shape;  // of an alias: sizes, then strides
};

struct Run {
  const Program& program;
  Borrowed* inputs;       // by parameter
  Output* outputs;        // by result
  const TorchApi* torch;  // NULL: results are arrays
  char refusal[256] = {};

  ~Run() {
    for (size_t i = 0; i < program.results.size(); ++i) {
      if (outputs[i].handle) torch->free_handle(outputs[i].handle);
      if (outputs[i].block) ::operator delete(outputs[i].block, std::align_val_t(64));
    }
  }

  static void* place(void* user, int32_t slot, const int64_t* sizes, const int64_t* strides) noexcept {
    Run& run = *static_cast<Run*>(user);
    const int32_t index = run.program.result_of_slot[static_cast<size_t>(slot)];
    const toroid_slot& type = run.program.model->outputs[static_cast<size_t>(slot)];
    const Result& result = run.program.results[static_cast<size_t>(index)];
    Output& output = run.outputs[index];
    if (result.kind == Result::Kind::size) return &output.number;
    if (result.alias >= 0) return run.place_alias(result, output, type, sizes, strides);
    return run.torch ? run.place_tensor(output, type, sizes, strides) : place_array(output, type, sizes, strides);
  }

  // Where tensors without elements are.
  alignas(64) static inline char nothing[64];

  void* place_tensor(Output& output, const toroid_slot& type, const int64_t* sizes, const int64_t* strides) {
    if (torch->empty_strided(type.rank, sizes, strides, type.dtype, 0, 0, &output.handle) != 0) {
      output.handle = nullptr;
      return nullptr;
    }
    if (torch->data_pointer(output.handle, &output.data) != 0) return nullptr;
    // A tensor without elements has no memory.
    return output.data ? output.data : nothing;
  }

  static void* place_array(Output& output, const toroid_slot& type, const int64_t* sizes, const int64_t* strides) {
    int64_t last = 0;
    for (int32_t d = 0; d < type.rank; ++d) last += sizes[d] > 0 ? (sizes[d] - 1) * strides[d] : 0;
    const int64_t head = (type.rank * 16 + 63) / 64 * 64;
    const size_t bytes = static_cast<size_t>(head + (last + 1) * toroid_dtype_bytes(type.dtype) + 64);
    output.block = ::operator new(bytes, std::align_val_t(64), std::nothrow);
    if (!output.block) return nullptr;
    int64_t* numbers = static_cast<int64_t*>(output.block);
    for (int32_t d = 0; d < type.rank; ++d) numbers[d] = sizes[d], numbers[type.rank + d] = strides[d];
    return output.data = static_cast<char*>(output.block) + head;
  }

  // The memory of an input, where it lies as the program was compiled for.
  void* place_alias(const Result& result, Output& output, const toroid_slot& type, const int64_t* sizes,
                    const int64_t* strides) {
    const toroid_tensor& input = inputs[result.alias].view;
    const Parameter& parameter = program.parameters[static_cast<size_t>(result.alias)];
    for (int32_t d = 0; d < input.rank; ++d) {
      const int64_t wanted = number((*parameter.strides)[static_cast<size_t>(d)]);
      if (input.sizes[d] > 1 && input.strides[d] != wanted) {
        std::snprintf(refusal, sizeof refusal,
                      "%s: a result is a view of it, so its stride %d must be %ld as in the export; it is %ld",
                      parameter.what.c_str(), d, wanted, input.strides[d]);
        return nullptr;
      }
    }
    output.number = number(result.offset);
    if (output.number < 0) {
      std::snprintf(refusal, sizeof refusal, "%s: a result is a view of it that begins at element %ld",
                    parameter.what.c_str(), output.number);
      return nullptr;
    }
    output.shape.assign(sizes, sizes + type.rank);
    output.shape.insert(output.shape.end(), strides, strides + type.rank);
    output.data = static_cast<char*>(input.data) + output.number * toroid_dtype_bytes(type.dtype);
    return output.data ? output.data : nothing;  // an input without elements may lie at null
  }

  int64_t number(const GraphBuilder::Size& size) const {
    if (size.expression.empty()) return size.number;
    SymbolValues values;
    for (const Symbol& symbol : program.symbols) {
      const toroid_tensor& input = inputs[symbol.parameter].view;
      values.emplace_back(symbol.name,
                          symbol.dim < 0 ? *static_cast<const int64_t*>(input.data) : input.sizes[symbol.dim]);
    }
    const Expected<int64_t> value = evaluate_size(size.expression, values);
    return value ? *value : -1;
  }
};

bool is_true(PyObject* answer) {
  if (!answer) throw nb::python_error();
  Py_DECREF(answer);
  return answer == Py_True;
}

// Python compares 1 == True == 1.0, and nan with nothing.
void check_constant(const Parameter& parameter, PyObject* given) {
  PyObject* wanted = parameter.value.ptr();
  if (given == wanted) return;
  const bool same_kind = Py_TYPE(given) == Py_TYPE(wanted);
  if (same_kind && is_true(PyObject_RichCompare(given, wanted, Py_EQ))) return;
  raise(Error{"bad_input",
              parameter.what + ": is " + nb::cast<std::string>(nb::repr(given)) +
                  ", but the program was exported for " + nb::cast<std::string>(nb::repr(wanted)),
              {}});
}

nb::dlpack::dtype array_dtype(int32_t dtype) {
  const uint8_t bits = static_cast<uint8_t>(8 * toroid_dtype_bytes(dtype));
  switch (dtype) {
    case TOROID_U8:
    case 27:
    case 28:
    case 29: return {dl_uint, bits, 1};
    case TOROID_I8:
    case TOROID_I16:
    case TOROID_I32:
    case TOROID_I64: return {dl_int, bits, 1};
    case TOROID_BOOL: return {dl_bool, bits, 1};
    case 8:
    case TOROID_C64:
    case TOROID_C128: return {dl_complex, bits, 1};
    case TOROID_BF16: return {dl_uint, bits, 1};
    default: return {dl_float, bits, 1};
  }
}

nb::object make_array(void* data, int32_t rank, const int64_t* sizes, const int64_t* strides, int32_t dtype,
                      nb::handle owner) {
  const std::vector<size_t> shape(sizes, sizes + rank);
  const nb::ndarray<nb::numpy> array(data, static_cast<size_t>(rank), shape.data(), owner, strides, array_dtype(dtype));
  nb::object made = nb::cast(array);
  // NumPy has no bfloat16 of its own.
  if (dtype == TOROID_BF16) made = made.attr("view")(nb::module_::import_("ml_dtypes").attr("bfloat16"));
  return made;
}

// The Python value of a result; a new reference.
PyObject* finish(Run& run, size_t index, std::span<PyObject* const> leaves) {
  const Result& result = run.program.results[index];
  Output& output = run.outputs[index];
  if (result.kind == Result::Kind::constant) return Py_NewRef(result.value.ptr());
  if (result.kind == Result::Kind::size) return PyLong_FromLongLong(output.number);
  const toroid_slot& type = run.program.model->outputs[static_cast<size_t>(result.slot)];
  if (result.alias >= 0) {
    const Borrowed& input = run.inputs[result.alias];
    const int64_t *sizes = output.shape.data(), *strides = sizes + type.rank;
    const toroid_tensor& view = input.view;
    if (output.number == 0 && type.rank == view.rank && std::equal(sizes, sizes + type.rank, view.sizes) &&
        std::equal(strides, strides + type.rank, view.strides))
      return Py_NewRef(leaves[static_cast<size_t>(result.alias)]);
    if (!input.is_torch) {
      return make_array(output.data, type.rank, sizes, strides, type.dtype, input.object).release().ptr();
    }
    nb::list shape, steps;
    for (int32_t d = 0; d < type.rank; ++d) shape.append(sizes[d]), steps.append(strides[d]);
    const nb::handle tensor = input.object;
    const int64_t start = nb::cast<int64_t>(tensor.attr("storage_offset")());
    return tensor.attr("as_strided")(shape, steps, start + output.number).release().ptr();
  }
  if (run.torch) {
    PyObject* made = run.torch->take(std::exchange(output.handle, nullptr));
    if (!made) throw nb::python_error();
    return made;
  }
  const int64_t* numbers = static_cast<const int64_t*>(output.block);
  const nb::capsule owner(output.block, [](void* p) noexcept { ::operator delete(p, std::align_val_t(64)); });
  output.block = nullptr;
  return make_array(output.data, type.rank, numbers, numbers + type.rank, type.dtype, owner).release().ptr();
}

// For autograd. Where PyTorch made the program, it does that itself.
void mark_written(const Program& program, std::span<PyObject* const> leaves) {
  if (program.trusted) return;
  for (size_t i = 0; i < program.parameters.size(); ++i)
    if (program.parameters[i].written && nb::hasattr(leaves[i], "_version"))
      nb::module_::import_("torch").attr("autograd").attr("graph").attr("increment_version")(nb::handle(leaves[i]));
}

// Runs the program on as many leaves as it has parameters; `results` gets new references.
void run_program(const Program& program, std::span<PyObject* const> leaves, PyObject** results) {
  const size_t count = program.parameters.size();
  Row<Borrowed> inputs(count);
  Row<toroid_tensor> tensors(count);
  Row<Output> outputs(program.results.size());
  size_t used = 0;
  bool torch = false, array = false, written = false;
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = program.parameters[i];
    switch (parameter.kind) {
      case Parameter::Kind::constant: check_constant(parameter, leaves[i]); continue;
      case Parameter::Kind::size: inputs[i].size(leaves[i], parameter.what); break;
      case Parameter::Kind::tensor:
        inputs[i].tensor(leaves[i], parameter.what, parameter.written, program.trusted);
        (inputs[i].is_torch ? torch : array) = true;
        written |= parameter.written && inputs[i].is_torch;
    }
    tensors[used++] = inputs[i].view;
  }
  Run run{program, inputs.begin(), outputs.begin(), torch || !array ? TorchApi::loaded() : nullptr};
  toroid_run_options options{.size = sizeof options};
  options.place = Run::place;
  options.place_user = &run;
  if (program.seed.is_valid()) {
    options.has_seed = 1;
    options.seed = static_cast<uint64_t>(nb::cast<int64_t>(program.seed()));
  }
  int status;
  Py_BEGIN_ALLOW_THREADS;
  status = toroid_run_with(program.model->handle, tensors.begin(), used, nullptr, 0, &options);
  Py_END_ALLOW_THREADS;
  if (run.refusal[0]) raise(Error{"bad_input", run.refusal, {}});
  if (status != TOROID_OK) raise_status(status);
  if (written) mark_written(program, leaves);
  size_t done = 0;
  try {
    for (; done < program.results.size(); ++done) {
      results[done] = finish(run, done, leaves);
      if (!results[done]) throw nb::python_error();
    }
  } catch (...) {
    while (done-- > 0) Py_CLEAR(results[done]);
    throw;
  }
}

// ---- the Python type ------------------------------------------------------------------------------------------------

struct CallObject {
  PyObject_HEAD;
  vectorcallfunc vectorcall;
  std::shared_ptr<const Program>* program;
  PyObject* dict;  // for whoever marks functions by attributes
};

const Program& program_of(PyObject* self) { return **reinterpret_cast<CallObject*>(self)->program; }

PyTypeObject* call_type = nullptr;

// Runs `work`, which returns a new reference, with C++ exceptions turned into Python's.
template <class F>
PyObject* guarded(F work) noexcept {
  try {
    return work();
  } catch (nb::python_error& error) {
    error.restore();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

void check_count(const Program& program, size_t count) {
  if (count != program.parameters.size())
    raise(Error{"bad_input",
                "expected " + std::to_string(program.parameters.size()) + " inputs, got " + std::to_string(count),
                {}});
}

// The list of results.
nb::object call_leaves(const Program& program, std::span<PyObject* const> leaves) {
  check_count(program, leaves.size());
  nb::object results = nb::steal(PyList_New(static_cast<Py_ssize_t>(program.results.size())));
  if (!results.is_valid()) throw nb::python_error();
  run_program(program, leaves, reinterpret_cast<PyListObject*>(results.ptr())->ob_item);
  return results;
}

PyObject* call_boxed(const Program& program, PyObject* list) {
  const bool is_list = PyList_Check(list);
  if (!is_list && !PyTuple_Check(list)) raise(Error{"bad_input", "a boxed call takes one list", {}});
  const size_t count = static_cast<size_t>(is_list ? PyList_GET_SIZE(list) : PyTuple_GET_SIZE(list));
  // The list may be changed by another thread meanwhile: its items are held.
  Row<PyObject*> leaves(count);
  PyObject** items =
      is_list ? reinterpret_cast<PyListObject*>(list)->ob_item : reinterpret_cast<PyTupleObject*>(list)->ob_item;
  for (size_t i = 0; i < count; ++i) leaves[i] = Py_NewRef(items[i]);
  struct Drop {
    Row<PyObject*>& leaves;
    ~Drop() {
      for (PyObject* leaf : leaves) Py_DECREF(leaf);
    }
  } drop{leaves};
  nb::object results = call_leaves(program, {leaves.begin(), count});
  // PyTorch's boxed calls empty the list, so that nothing holds the inputs longer than needed.
  if (program.trusted && is_list && PyList_SetSlice(list, 0, PY_SSIZE_T_MAX, nullptr) != 0) throw nb::python_error();
  return results.release().ptr();
}

// Positional arguments and keywords, in the order of the program's own. An argument that the program took by position
// stays positional.
void flatten_call(const Program& program, PyObject* const* args, size_t count, PyObject* names,
                  std::vector<PyObject*>& leaves) {
  const size_t wanted = program.args.children.size();
  if (count != wanted)
    raise(Error{
        "bad_input", "expected " + std::to_string(wanted) + " positional arguments, got " + std::to_string(count), {}});
  static const std::string prefix = "args";
  for (size_t i = 0; i < count; ++i) {
    if (program.args.children[i].kind == Tree::Kind::leaf)
      leaves.push_back(args[i]);
    else
      flatten(program.args.children[i], args[i], leaves, prefix + "[" + std::to_string(i) + "]");
  }
  const Py_ssize_t given = names ? PyTuple_GET_SIZE(names) : 0;
  for (size_t k = 0; k < program.kwargs.keys.size(); ++k) {
    PyObject* value = nullptr;
    for (Py_ssize_t i = 0; i < given && !value; ++i)
      if (is_true(PyObject_RichCompare(PyTuple_GET_ITEM(names, i), program.kwargs.keys[k].ptr(), Py_EQ)))
        value = args[count + static_cast<size_t>(i)];
    const std::string name = nb::cast<std::string>(nb::str(program.kwargs.keys[k]));
    if (!value) raise(Error{"bad_input", "the keyword argument `" + name + "` is missing", {}});
    flatten(program.kwargs.children[k], value, leaves, name);
  }
  for (Py_ssize_t i = 0; i < given; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    bool known = false;
    for (const nb::object& key : program.kwargs.keys) known |= is_true(PyObject_RichCompare(name, key.ptr(), Py_EQ));
    if (!known)
      raise(Error{
          "bad_input", "the program takes no keyword argument `" + nb::cast<std::string>(nb::handle(name)) + "`", {}});
  }
}

PyObject* call_nested(const Program& program, PyObject* const* args, size_t count, PyObject* names) {
  std::vector<PyObject*> leaves;
  leaves.reserve(program.parameters.size());
  flatten_call(program, args, count, names, leaves);
  // Leaves of nested lists could be dropped by another thread.
  for (PyObject* leaf : leaves) Py_INCREF(leaf);
  struct Drop {
    std::vector<PyObject*>& leaves;
    ~Drop() {
      for (PyObject* leaf : leaves) Py_XDECREF(leaf);
    }
  } drop{leaves};
  std::vector<PyObject*> results(program.results.size());
  run_program(program, leaves, results.data());
  PyObject** next = results.data();
  PyObject* made = unflatten(program.out, next);
  if (!made)
    for (PyObject* rest : results) Py_XDECREF(rest);
  return made;
}

PyObject* vectorcall(PyObject* self, PyObject* const* args, size_t flags, PyObject* names) noexcept {
  const Program& program = program_of(self);
  const size_t count = static_cast<size_t>(PyVectorcall_NARGS(flags));
  return guarded([&]() -> PyObject* {
    if (program.nested) return call_nested(program, args, count, names);
    if (count != 1 || names) raise(Error{"bad_input", "a boxed call takes one list", {}});
    return call_boxed(program, args[0]);
  });
}

PyObject* vectorcall_flat(PyObject* self, PyObject* const* args, size_t flags, PyObject* names) noexcept {
  return guarded([&]() -> PyObject* {
    if (names) raise(Error{"bad_input", "the call takes no keyword arguments", {}});
    // The caller holds the arguments.
    return call_leaves(program_of(self), {args, static_cast<size_t>(PyVectorcall_NARGS(flags))}).release().ptr();
  });
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(reinterpret_cast<CallObject*>(self)->dict);
  Py_VISIT(Py_TYPE(self));
  return 0;
}
int clear(PyObject* self) {
  Py_CLEAR(reinterpret_cast<CallObject*>(self)->dict);
  return 0;
}
void destroy(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  clear(self);
  delete reinterpret_cast<CallObject*>(self)->program;  // this reference to it
  type->tp_free(self);
  Py_DECREF(type);
}

bool takes_list(PyObject* self) {
  return reinterpret_cast<CallObject*>(self)->vectorcall == vectorcall && !program_of(self).nested;
}
PyObject* is_boxed(PyObject* self, void*) { return PyBool_FromLong(takes_list(self)); }
// Whoever marks functions may mark what is so already.
int set_boxed(PyObject* self, PyObject* value, void*) {
  if (value && PyObject_IsTrue(value) == takes_list(self)) return 0;
  PyErr_SetString(PyExc_AttributeError, "`_boxed_call` says how the call was made");
  return -1;
}

PyObject* make_object(std::shared_ptr<const Program> program, vectorcallfunc function) {
  CallObject* call = PyObject_GC_New(CallObject, call_type);
  if (!call) throw nb::python_error();
  call->vectorcall = function;
  call->program = new std::shared_ptr<const Program>(std::move(program));
  call->dict = nullptr;
  PyObject_GC_Track(call);
  return reinterpret_cast<PyObject*>(call);
}

PyObject* unboxed(PyObject* self, PyObject*) {
  return guarded([&] { return make_object(*reinterpret_cast<CallObject*>(self)->program, vectorcall_flat); });
}

PyTypeObject* make_type() {
  static PyMemberDef members[] = {
      {"__vectorcalloffset__", T_PYSSIZET, offsetof(CallObject, vectorcall), READONLY, nullptr},
      {"__dictoffset__", T_PYSSIZET, offsetof(CallObject, dict), READONLY, nullptr},
      {}};
  static PyGetSetDef properties[] = {
      {"_boxed_call", is_boxed, set_boxed, "PyTorch's mark of calls that take a list.", nullptr},
      {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
      {}};
  static PyMethodDef methods[] = {
      {"unboxed", unboxed, METH_NOARGS, "The same function of the leaves as arguments, instead of one list."}, {}};
  static PyType_Slot slots[] = {{Py_tp_methods, methods},
                                {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                                {Py_tp_members, members},
                                {Py_tp_getset, properties},
                                {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
                                {Py_tp_clear, reinterpret_cast<void*>(clear)},
                                {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
                                {Py_tp_doc, const_cast<char*>("A loaded program as a function.")},
                                {}};
  static PyType_Spec spec = {
      "toroid._native.Call", sizeof(CallObject), 0,
      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  return reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
}

Parameter to_parameter(nb::handle value) {
  const nb::dict row = nb::cast<nb::dict>(value);
  Parameter parameter;
  parameter.what = nb::cast<std::string>(row["what"]);
  const std::string kind = nb::cast<std::string>(row["kind"]);
  if (kind == "size") parameter.kind = Parameter::Kind::size;
  if (kind == "constant") parameter.kind = Parameter::Kind::constant, parameter.value = nb::borrow(row["value"]);
  if (row.contains("written")) parameter.written = nb::cast<bool>(row["written"]);
  if (row.contains("strides")) parameter.strides = to_sizes(row["strides"]);
  return parameter;
}

Result to_result(nb::handle value) {
  const nb::dict row = nb::cast<nb::dict>(value);
  Result result;
  const std::string kind = nb::cast<std::string>(row["kind"]);
  if (kind == "size") result.kind = Result::Kind::size;
  if (kind == "constant") result.kind = Result::Kind::constant, result.value = nb::borrow(row["value"]);
  if (row.contains("alias")) result.alias = nb::cast<int32_t>(row["alias"]), result.offset = to_size(row["offset"]);
  return result;
}

nb::object make_call(std::shared_ptr<Model> model, nb::handle parameters, nb::handle results, nb::handle symbols,
                     nb::handle trees, bool trusted, nb::handle seed) {
  auto program = std::make_unique<Program>();
  program->model = model;
  size_t slots = 0;
  for (nb::handle row : parameters) {
    program->parameters.push_back(to_parameter(row));
    slots += program->parameters.back().kind != Parameter::Kind::constant;
  }
  if (slots != model->inputs.size()) throw nb::value_error("the parameters do not fit the model");
  for (nb::handle row : results) {
    Result result = to_result(row);
    if (result.kind != Result::Kind::constant) {
      result.slot = static_cast<int32_t>(program->result_of_slot.size());
      program->result_of_slot.push_back(static_cast<int32_t>(program->results.size()));
    }
    const int32_t alias = result.alias;
    if (alias >= 0 && (alias >= static_cast<int32_t>(program->parameters.size()) ||
                       !program->parameters[static_cast<size_t>(alias)].strides))
      throw nb::value_error("a result is a view of no parameter");
    program->results.push_back(std::move(result));
  }
  if (program->result_of_slot.size() != model->outputs.size())
    throw nb::value_error("the results do not fit the model");
  for (nb::handle value : symbols) {
    const nb::tuple row = nb::cast<nb::tuple>(value);
    program->symbols.push_back({nb::cast<std::string>(row[0]), nb::cast<int32_t>(row[1]), nb::cast<int32_t>(row[2])});
  }
  program->trusted = trusted;
  if (!seed.is_none()) program->seed = nb::borrow(seed);
  if (!trees.is_none()) {
    const nb::tuple three = nb::cast<nb::tuple>(trees);
    program->nested = true;
    program->args = Tree::from_python(three[0]);
    program->kwargs = Tree::from_python(three[1]);
    program->out = Tree::from_python(three[2]);
  }
  return nb::steal(make_object(std::move(program), vectorcall));
}

}  // namespace

void bind_call(nb::module_& module) {
  call_type = make_type();
  if (!call_type) throw nb::python_error();
  module.attr("Call") = nb::borrow(reinterpret_cast<PyObject*>(call_type));
  module.def(
      "make_call", &make_call, "model"_a, "parameters"_a, "results"_a, "symbols"_a = nb::tuple(),
      "trees"_a = nb::none(), "trusted"_a = false, "seed"_a = nb::none(),
      "A Model as a function. parameters, results: one dict per leaf (kind: tensor, size or constant); symbols: "
      "(name, parameter, dim); trees: nesting of args, kwargs and the result, or None for a boxed call (one list "
      "in, a list out). trusted: leave out what PyTorch's guards check; seed: called before each run, gives the seed "
      "of its random "
      "numbers.");
}

}  // namespace toroid::python
