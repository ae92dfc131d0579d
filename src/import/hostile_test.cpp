// Damaged and lying archives: every one is refused with the right kind of error, none crashes. A small good archive is
// written here, then broken in one way per case.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include <cstring>
#include <filesystem>
#include <functional>

#include "base/file.h"
#include "import/import.h"

namespace toroid {
namespace {

struct Entry {
  std::string name, bytes;
  uint16_t method = 0, flags = 0;
  // What the central directory claims; -1: the truth.
  int64_t size = -1, stored_size = -1, offset = -1;
  std::optional<uint32_t> crc;
};

void put(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
}

std::string deflated(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zip(const std::vector<Entry>& entries, int64_t claimed_count = -1) {
  std::string out, central;
  for (const Entry& entry : entries) {
    const std::string data = entry.method == 8 ? deflated(entry.bytes) : entry.bytes;
    const uint32_t crc = entry.crc.value_or(static_cast<uint32_t>(
        crc32(0, reinterpret_cast<const Bytef*>(entry.bytes.data()), static_cast<uInt>(entry.bytes.size()))));
    const uint64_t size = entry.size >= 0 ? static_cast<uint64_t>(entry.size) : entry.bytes.size();
    const uint64_t stored = entry.stored_size >= 0 ? static_cast<uint64_t>(entry.stored_size) : data.size();
    const uint64_t offset = entry.offset >= 0 ? static_cast<uint64_t>(entry.offset) : out.size();
    std::string common;
    put(common, 20, 2), put(common, entry.flags, 2), put(common, entry.method, 2), put(common, 0, 4);
    put(common, crc, 4), put(common, stored, 4), put(common, size, 4), put(common, entry.name.size(), 2),
        put(common, 0, 2);
    out += "PK\3\4" + common + entry.name + data;
    central += std::string("PK\1\2") + std::string("\x14\0", 2) + common;
    put(central, 0, 2), put(central, 0, 2), put(central, 0, 2), put(central, 0, 4), put(central, offset, 4);
    central += entry.name;
  }
  const uint64_t start = out.size(), count = claimed_count >= 0 ? static_cast<uint64_t>(claimed_count) : entries.size();
  out += central + "PK\5\6";
  put(out, 0, 4), put(out, count, 2), put(out, count, 2), put(out, central.size(), 4), put(out, start, 4),
      put(out, 0, 2);
  return out;
}

constexpr const char* program =
    R"json({"schema_version":{"major":8,"minor":20},"opset_version":{"aten":10},"torch_version":"2.13.0","verifiers":["TRAINING"],
"range_constraints":{"s7":{"min_val":1,"max_val":64}},"guards_code":[],
"graph_module":{"module_call_graph":[{"fqn":"","signature":{"inputs":[],"outputs":[],"in_spec":"","out_spec":"","forward_arg_names":["x"]}}],
"signature":{"input_specs":[{"parameter":{"arg":{"name":"p_w"},"parameter_name":"w"}},{"user_input":{"arg":{"as_tensor":{"name":"x"}}}}],
"output_specs":[{"user_output":{"arg":{"as_tensor":{"name":"add"}}}}]},
"graph":{"inputs":[{"as_tensor":{"name":"p_w"}},{"as_tensor":{"name":"x"}}],"outputs":[{"as_tensor":{"name":"add"}}],
"nodes":[{"target":"torch.ops.aten.add.Tensor","inputs":[{"name":"self","arg":{"as_tensor":{"name":"x"}},"kind":1},{"name":"other","arg":{"as_tensor":{"name":"p_w"}},"kind":1}],
"outputs":[{"as_tensor":{"name":"add"}}],"metadata":{"stack_trace":"File \"m.py\", line 3, in forward"},"is_hop_single_tensor_return":null}],
"tensor_values":{"p_w":{"dtype":7,"sizes":[{"as_int":4}],"requires_grad":true,"device":{"type":"cpu","index":null},"strides":[{"as_int":1}],"storage_offset":{"as_int":0},"layout":7},
"x":{"dtype":7,"sizes":[{"as_expr":{"expr_str":"Symbol('s7', positive=True, integer=True)","hint":{"as_int":3}}},{"as_int":4}],"requires_grad":false,"device":{"type":"cpu","index":null},"strides":[{"as_int":4},{"as_int":1}],"storage_offset":{"as_int":0},"layout":7},
"add":{"dtype":7,"sizes":[{"as_expr":{"expr_str":"Symbol('s7', positive=True, integer=True)","hint":null}},{"as_int":4}],"requires_grad":false,"device":{"type":"cpu","index":null},"strides":[{"as_int":4},{"as_int":1}],"storage_offset":{"as_int":0},"layout":7}},
"sym_int_values":{},"sym_bool_values":{},"sym_float_values":{},"is_single_tensor_return":false}}})json";
constexpr const char* weights =
    R"json({"config":{"w":{"path_name":"weight_0","is_param":true,"use_pickle":false,"tensor_meta":{"dtype":7,"sizes":[{"as_int":4}],"requires_grad":true,"device":{"type":"cpu","index":null},"strides":[{"as_int":1}],"storage_offset":{"as_int":0},"layout":7}}}})json";

struct Good {
  std::string json = program, config = weights;
  std::vector<Entry> entries;
  int64_t count = -1;
  std::string prefix = "m/";

  // Members in the usual order; `entries` may be changed afterwards.
  void lay_out() {
    entries = {{prefix + "data/weights/weight_0", std::string(16, 'w')},
               {prefix + "data/weights/model_weights_config.json", config},
               {prefix + "data/constants/model_constants_config.json", "{\"config\":{}}"},
               {prefix + "models/model.json", json},
               {prefix + "archive_format", "pt2"},
               {prefix + "archive_version", "0"},
               {prefix + "byteorder", "little"}};
  }
  Entry& entry(const std::string& name) {
    for (Entry& e : entries)
      if (e.name == prefix + name) return e;
    throw std::runtime_error(name);
  }
};

void swap(std::string& text, const std::string& from, const std::string& to) {
  size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("no " + from);
  text.replace(at, from.size(), to);
}

class Hostile : public testing::Test {
 protected:
  void SetUp() override { folder_ = std::make_unique<TempFolder>(std::move(*TempFolder::create())); }
  Result<Graph> import(const std::string& bytes) {
    std::string path = folder_->path() + "/m.pt2";
    EXPECT_TRUE(write_file_atomic(path, bytes));
    return import_model(path, {.allow_unknown_ops = true});
  }
  std::unique_ptr<TempFolder> folder_;
};

std::string build(const std::function<void(Good&)>& before, const std::function<void(Good&)>& after = {}) {
  Good good;
  if (before) before(good);
  good.lay_out();
  if (after) after(good);
  return zip(good.entries, good.count);
}

TEST_F(Hostile, TheGoodArchiveIsGood) {
  Result<Graph> graph = import(build({}));
  ASSERT_TRUE(graph) << graph.error().to_string();
  EXPECT_EQ(print_graph(*graph), R"(graph @model(%x: f32[s0, 4]) where 1 <= s0 <= 64 hint 3 {
  %w = weight "w" : f32[4]
  %add = aten.add.Tensor(%x, %w, 1) : f32[s0, 4]  @ m.py:3
  return %add
}
)");
}

TEST_F(Hostile, DeflatedMembersAreRead) {
  Result<Graph> graph = import(build({}, [](Good& g) {
    for (Entry& entry : g.entries) entry.method = 8;
  }));
  ASSERT_TRUE(graph) << graph.error().to_string();
  EXPECT_EQ(std::memcmp(graph->storages[0].data, "wwwwwwwwwwwwwwww", 16), 0);
}

struct Case {
  const char* name;
  Kind kind;
  std::function<void(Good&)> before, after;
};

Case json(const char* name, Kind kind, const char* from, const char* to) {
  return {name, kind, [=](Good& g) { swap(g.json, from, to); }, {}};
}
Case payload(const char* name, Kind kind, const char* from, const char* to) {
  return {name, kind, [=](Good& g) { swap(g.config, from, to); }, {}};
}
Case container(const char* name, Kind kind, std::function<void(Good&)> change) {
  return {name, kind, {}, std::move(change)};
}

TEST_F(Hostile, EveryBrokenArchiveIsRefused) {
  const auto drop = [](const char* name) {
    return [=](Good& g) { std::erase_if(g.entries, [&](const Entry& e) { return e.name == g.prefix + name; }); };
  };
  const std::vector<Case> cases = {
      // the container
      container("no members", Kind::bad_file, [](Good& g) { g.entries.clear(); }),
      container("name leaves the folder", Kind::bad_file, [](Good& g) { g.entries.push_back({"m/../evil", "x"}); }),
      container("absolute name", Kind::bad_file, [](Good& g) { g.entries.push_back({"/etc/passwd", "x"}); }),
      container("absolute first name", Kind::bad_file, [](Good& g) { g.entries[0].name = "/m/x"; }),
      container("backslash name", Kind::bad_file, [](Good& g) { g.entries.push_back({"m/..\\evil", "x"}); }),
      container("empty name", Kind::bad_file, [](Good& g) { g.entries.push_back({"", "x"}); }),
      container("name outside the prefix", Kind::bad_file, [](Good& g) { g.entries.push_back({"other/file", "x"}); }),
      container("two members of one name", Kind::bad_file, [](Good& g) { g.entries.push_back(g.entries[0]); }),
      container("name of 5000 bytes", Kind::bad_file, [](Good& g) { g.entries.push_back({"m/" + std::string(5000, 'a'), "x"}); }),
      container("member count too large", Kind::bad_file, [](Good& g) { g.count = 60000; }),
      container("size beyond the file", Kind::bad_file, [](Good& g) { g.entries[0].size = g.entries[0].stored_size = 1 << 30; }),
      container("stored sizes differ", Kind::bad_file, [](Good& g) { g.entries[0].size = 8; }),
      container("offset beyond the file", Kind::bad_file, [](Good& g) { g.entries[0].offset = 1 << 30; }),
      container("offset at no header", Kind::bad_file, [](Good& g) { g.entries[0].offset = 7; }),
      container("unknown compression", Kind::unsupported, [](Good& g) { g.entries[0].method = 12; }),
      container("encrypted member", Kind::unsupported, [](Good& g) { g.entries[0].flags = 1; }),
      container("wrong CRC of the program", Kind::bad_file, [](Good& g) { g.entry("models/model.json").crc = 1; }),
      container("wrong CRC, deflated", Kind::bad_file, [](Good& g) { g.entry("models/model.json").method = 8, g.entry("models/model.json").crc = 1; }),
      container("inflates to more than claimed", Kind::bad_file, [](Good& g) { g.entry("models/model.json").method = 8, g.entry("models/model.json").size = 100; }),
      container("claims to inflate a thousandfold", Kind::bad_file, [](Good& g) { g.entry("archive_format").method = 8, g.entry("archive_format").size = 1 << 30; }),
      container("inflates to less than claimed", Kind::bad_file, [](Good& g) { g.entry("models/model.json").method = 8, g.entry("models/model.json").size = 9000; }),
      container("no archive_format", Kind::bad_file, drop("archive_format")),
      container("no archive_version", Kind::bad_file, drop("archive_version")),
      container("no program", Kind::bad_file, drop("models/model.json")),
      container("no weights config", Kind::bad_file, drop("data/weights/model_weights_config.json")),
      container("no payload", Kind::bad_file, drop("data/weights/weight_0")),
      container("another format", Kind::unsupported, [](Good& g) { g.entry("archive_format").bytes = "pt3"; }),
      container("another version", Kind::unsupported, [](Good& g) { g.entry("archive_version").bytes = "1"; }),
      container("big endian", Kind::unsupported, [](Good& g) { g.entry("byteorder").bytes = "big"; }),
      container("two models, none named", Kind::bad_option, [](Good& g) { g.entries.push_back({"m/models/second.json", "{}"}); }),
      container("weights as a pickle", Kind::unsupported, [](Good& g) {
        g.entry("data/weights/model_weights_config.json").name = "m/data/weights/model.pt";
      }),
      // payloads
      container("payload cut short", Kind::bad_file, [](Good& g) { g.entry("data/weights/weight_0").bytes = "short"; }),
      payload("pickled payload", Kind::unsupported, "\"use_pickle\":false", "\"use_pickle\":true"),
      payload("payload of another name", Kind::bad_file, "weight_0", "weight_9"),
      payload("payload path leaves the folder", Kind::bad_file, "weight_0", "../../weight_0"),
      payload("payload offset too large", Kind::bad_file, "\"storage_offset\":{\"as_int\":0}", "\"storage_offset\":{\"as_int\":1}"),
      payload("payload offset negative", Kind::bad_file, "\"storage_offset\":{\"as_int\":0}", "\"storage_offset\":{\"as_int\":-1}"),
      payload("payload offset enormous", Kind::bad_file, "\"storage_offset\":{\"as_int\":0}", "\"storage_offset\":{\"as_int\":9223372036854775807}"),
      payload("payload stride enormous", Kind::bad_file, "\"strides\":[{\"as_int\":1}]", "\"strides\":[{\"as_int\":4611686018427387904}]"),
      payload("payload stride negative", Kind::bad_file, "\"strides\":[{\"as_int\":1}]", "\"strides\":[{\"as_int\":-1}]"),
      payload("payload size enormous", Kind::bad_file, "\"sizes\":[{\"as_int\":4}]", "\"sizes\":[{\"as_int\":4611686018427387904}]"),
      payload("payload size negative", Kind::bad_file, "\"sizes\":[{\"as_int\":4}]", "\"sizes\":[{\"as_int\":-4}]"),
      payload("payload of another size than the program's", Kind::bad_file, "\"sizes\":[{\"as_int\":4}]", "\"sizes\":[{\"as_int\":3}]"),
      payload("payload of another rank", Kind::bad_file, "\"strides\":[{\"as_int\":1}]", "\"strides\":[]"),
      payload("payload of a symbolic size", Kind::bad_file, "{\"as_int\":4}", "{\"as_expr\":{\"expr_str\":\"Symbol('s1')\",\"hint\":null}}"),
      payload("payload of another dtype", Kind::bad_file, "\"dtype\":7", "\"dtype\":4"),
      payload("payload of an unknown dtype", Kind::unsupported, "\"dtype\":7", "\"dtype\":99"),
      payload("payload without meta", Kind::bad_file, "\"tensor_meta\":", "\"other\":"),
      payload("config is no object", Kind::bad_file, "{\"config\":{", "{\"config\":7,\"x\":{"),
      {"zeros without end", Kind::bad_file,
       [](Good& g) {
         swap(g.config, "\"sizes\":[{\"as_int\":4}]", "\"sizes\":[{\"as_int\":281474976710000}]");
         swap(g.json, "\"sizes\":[{\"as_int\":4}]", "\"sizes\":[{\"as_int\":281474976710000}]");
       },
       [](Good& g) { g.entry("data/weights/weight_0").bytes.clear(); }},
      // the program's form
      {"program is no JSON", Kind::bad_file, [](Good& g) { g.json = "{\"a\":"; }, {}},
      {"program is empty", Kind::bad_file, [](Good& g) { g.json.clear(); }, {}},
      {"program is an array", Kind::bad_file, [](Good& g) { g.json = "[]"; }, {}},
      {"program is a deep array", Kind::bad_file, [](Good& g) { g.json = std::string(100000, '[') + std::string(100000, ']'); }, {}},
      {"program is not UTF-8", Kind::bad_file, [](Good& g) { swap(g.json, "m.py", "\xff\xfe"); }, {}},
      json("schema 7", Kind::unsupported, "\"major\":8", "\"major\":7"),
      json("schema 9", Kind::unsupported, "\"major\":8", "\"major\":9"),
      json("schema is a text", Kind::bad_file, "\"major\":8", "\"major\":\"8\""),
      json("no graph_module", Kind::bad_file, "\"graph_module\":", "\"module\":"),
      json("no graph", Kind::bad_file, "\"graph\":", "\"grap\":"),
      json("no signature", Kind::bad_file, "\"signature\":{\"input_specs\"", "\"signatur\":{\"input_specs\""),
      json("nodes is an object", Kind::bad_file, "\"nodes\":[{", "\"nodes\":{\"a\":[{"),
      json("fewer specs than inputs", Kind::bad_file, ",{\"user_input\":{\"arg\":{\"as_tensor\":{\"name\":\"x\"}}}}", ""),
      json("fewer specs than outputs", Kind::bad_file, "\"output_specs\":[{\"user_output\":{\"arg\":{\"as_tensor\":{\"name\":\"add\"}}}}]", "\"output_specs\":[]"),
      json("unknown spec", Kind::bad_file, "{\"parameter\":{", "{\"parametre\":{"),
      json("custom object", Kind::unsupported, "{\"parameter\":{", "{\"custom_obj\":{"),
      json("spec with two keys", Kind::bad_file, "{\"parameter\":{", "{\"more\":1,\"parameter\":{"),
      json("parameter without payload", Kind::bad_file, "\"parameter_name\":\"w\"", "\"parameter_name\":\"v\""),
      json("mutation of nothing", Kind::bad_file, "\"user_output\":{\"arg\":{\"as_tensor\":{\"name\":\"add\"}}", "\"buffer_mutation\":{\"arg\":{\"name\":\"add\"},\"buffer_name\":\"b\""),
      json("gradient output", Kind::unsupported, "\"user_output\":{\"arg\":{\"as_tensor\":{\"name\":\"add\"}}", "\"gradient_to_parameter\":{\"arg\":{\"name\":\"add\"},\"parameter_name\":\"w\""),
      // nodes
      json("operand never defined", Kind::bad_file, "\"arg\":{\"as_tensor\":{\"name\":\"x\"}},\"kind\":1", "\"arg\":{\"as_tensor\":{\"name\":\"y\"}},\"kind\":1"),
      json("output never defined", Kind::bad_file, "\"outputs\":[{\"as_tensor\":{\"name\":\"add\"}}],\n\"nodes\"", "\"outputs\":[{\"as_tensor\":{\"name\":\"sub\"}}],\n\"nodes\""),
      json("unknown argument kind", Kind::bad_file, "{\"as_tensor\":{\"name\":\"p_w\"}},\"kind\"", "{\"as_thing\":{\"name\":\"p_w\"}},\"kind\""),
      json("argument without a tag", Kind::bad_file, "{\"as_tensor\":{\"name\":\"p_w\"}},\"kind\"", "{},\"kind\""),
      json("argument that the schema lacks", Kind::bad_file, "\"name\":\"other\"", "\"name\":\"another\""),
      json("argument given twice", Kind::bad_file, "\"name\":\"other\"", "\"name\":\"self\""),
      json("argument of the wrong kind", Kind::bad_file, "{\"as_tensor\":{\"name\":\"p_w\"}},\"kind\"", "{\"as_string\":\"p_w\"},\"kind\""),
      json("integer too large", Kind::bad_file, "{\"as_tensor\":{\"name\":\"p_w\"}},\"kind\"", "{\"as_int\":99999999999999999999},\"kind\""),
      json("argument of nested lists", Kind::unsupported, "{\"as_tensor\":{\"name\":\"p_w\"}},\"kind\"", "{\"as_int_lists\":[[1]]},\"kind\""),
      json("node without target", Kind::bad_file, "\"target\":", "\"targets\":"),
      json("result without type", Kind::bad_file, "\"outputs\":[{\"as_tensor\":{\"name\":\"add\"}}],\"metadata\"", "\"outputs\":[{\"as_tensor\":{\"name\":\"other\"}}],\"metadata\""),
      // types and sizes
      json("unknown dtype", Kind::unsupported, "\"x\":{\"dtype\":7", "\"x\":{\"dtype\":1000"),
      json("sparse layout", Kind::unsupported, "\"layout\":7},\n\"add\"", "\"layout\":2},\n\"add\""),
      json("other device", Kind::unsupported, "\"requires_grad\":false,\"device\":{\"type\":\"cpu\"", "\"requires_grad\":false,\"device\":{\"type\":\"cuda\""),
      json("size is a text", Kind::bad_file, "{\"as_int\":4}],\"requires_grad\":false", "{\"as_int\":\"4\"}],\"requires_grad\":false"),
      json("size enormous", Kind::bad_file, "{\"as_int\":4}],\"requires_grad\":false", "{\"as_int\":9223372036854775807}],\"requires_grad\":false"),
      json("size negative", Kind::bad_file, "{\"as_int\":4}],\"requires_grad\":false", "{\"as_int\":-4}],\"requires_grad\":false"),
      json("sizes without strides", Kind::bad_file, "\"strides\":[{\"as_int\":4},{\"as_int\":1}]", "\"strides\":[]"),
      json("empty expression", Kind::bad_file, "Symbol('s7', positive=True, integer=True)", ""),
      json("expression cut short", Kind::bad_file, "Symbol('s7', positive=True, integer=True)", "Add(Symbol('s7'"),
      json("unknown function", Kind::unsupported, "Symbol('s7', positive=True, integer=True)", "Exploit(Symbol('s7'))"),
      json("division by zero", Kind::bad_file, "Symbol('s7', positive=True, integer=True)", "FloorDiv(Symbol('s7'), Integer(0))"),
      json("symbol of odd name", Kind::bad_file, "Symbol('s7', positive=True, integer=True)", "Symbol('s7;', positive=True)"),
      {"expression nested 100000 deep", Kind::bad_file,
       [](Good& g) {
         std::string deep;
         for (int i = 0; i < 100000; ++i) deep += "Add(";
         swap(g.json, "Symbol('s7', positive=True, integer=True)", deep);
       },
       {}},
      {"product of 60 sums", Kind::unsupported,
       [](Good& g) {
         std::string product = "Mul(Integer(1)";
         for (int i = 0; i < 60; ++i) product += ", Add(Symbol('s" + std::to_string(i) + "'), Integer(1))";
         swap(g.json, "Symbol('s7', positive=True, integer=True)", product + ", Symbol('s7'))");
       },
       {}},
      json("empty range", Kind::bad_file, "\"min_val\":1", "\"min_val\":65"),
      json("range is a text", Kind::bad_file, "\"min_val\":1", "\"min_val\":\"1\""),
  };
  EXPECT_GE(cases.size(), 60u);
  for (const Case& broken : cases) {
    SCOPED_TRACE(broken.name);
    Result<Graph> graph = import(build(broken.before, broken.after));
    EXPECT_FALSE(graph) << broken.name;
    if (graph) continue;
    EXPECT_EQ(graph.error().kind, broken.kind) << broken.name << ": " << graph.error().to_string();
    EXPECT_EQ(graph.error().text.find('\n'), std::string::npos) << broken.name;
  }
}

// Keys of ranges and guards are written as Python writes them: neither what is open in the text nor what nests in the
// value may grow without end.
TEST_F(Hostile, EndlessExpressionsOfRangesAreRefused) {
  auto times = [](int count, const std::string& text) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  for (const std::string& text :
       {times(100000, "(") + "s7", times(100000, "-") + "(s7", "s7" + times(30000, " // s8 % 9"),
        "s7" + times(30000, " & s8"), "s7 < 5" + times(30000, " and s8 < 6"), "s7 < 5" + times(30000, " or s8 < 6"),
        "1" + times(30000, " < s7"), "s7" + times(30000, " / s8")}) {
    SCOPED_TRACE(text.substr(0, 40));
    Result<Graph> graph = import(build([&](Good& g) {
      swap(g.json, "{\"s7\":{\"min_val\"", "{\"" + text + "\":{\"min_val\":2,\"max_val\":3},\"s7\":{\"min_val\"");
    }));
    ASSERT_FALSE(graph);
    EXPECT_EQ(graph.error().kind, Kind::unsupported) << graph.error().text;
  }
}

TEST_F(Hostile, CutAnywhere) {
  const std::string good = build({});
  for (size_t length = 0; length < good.size(); length += 1 + length / 40) {
    Result<Graph> graph = import(good.substr(0, length));
    ASSERT_FALSE(graph) << length;
    EXPECT_EQ(graph.error().kind, Kind::bad_file) << length << ": " << graph.error().to_string();
  }
}

TEST_F(Hostile, NoiseAnywhere) {
  // Any byte changed: an answer, whatever it is, and no crash. A fixed generator, so a failure comes again.
  const std::string good = build({});
  uint32_t seed = 12345;
  for (int i = 0; i < 300; ++i) {
    std::string noisy = good;
    seed = seed * 1664525 + 1013904223;
    size_t at = seed % noisy.size();
    seed = seed * 1664525 + 1013904223;
    noisy[at] = static_cast<char>(seed >> 24);
    SCOPED_TRACE(at);
    Result<Graph> graph = import(noisy);
    if (!graph) {
      EXPECT_NE(graph.error().kind, Kind::internal) << graph.error().to_string();
    }
  }
}

TEST(HostilePath, NotAFile) {
  EXPECT_EQ(import_model("/nowhere/m.pt2").error().kind, Kind::io);
  EXPECT_FALSE(import_model("/"));
}

}  // namespace
}  // namespace toroid
