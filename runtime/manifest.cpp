// JSON text to Manifest. Every field is checked for presence and type; nothing here throws.
#include "manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "toroid/runtime.h"

namespace toroid::runtime {
namespace {

using Json = nlohmann::ordered_json;

// Reads fields below a path such as "code", remembering the first one that is missing or of another type.
struct Fields {
  std::string missing;

  const Json* find(const Json& j, const char* key) {
    if (j.is_object())
      if (const auto it = j.find(key); it != j.end()) return &*it;
    if (missing.empty()) missing = key;
    return nullptr;
  }
  std::string text(const Json& j, const char* key) {
    const Json* f = find(j, key);
    if (f && f->is_string()) return f->get<std::string>();
    if (missing.empty()) missing = key;
    return {};
  }
  uint64_t number(const Json& j, const char* key) {
    const Json* f = find(j, key);
    if (f && f->is_number_unsigned()) return f->get<uint64_t>();
    if (missing.empty()) missing = key;
    return 0;
  }
};

// How deep the brackets outside of a JSON text's strings go. Copies of a Json recurse as deep.
int nesting(std::string_view text) {
  int depth = 0, most = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string) {
      if (text[i] == '\\')
        ++i;
      else if (text[i] == '"')
        in_string = false;
    } else if (text[i] == '"') {
      in_string = true;
    } else if (text[i] == '{' || text[i] == '[') {
      most = std::max(most, ++depth);
    } else if (text[i] == '}' || text[i] == ']') {
      --depth;
    }
  }
  return most;
}

Outcome<void> check_format(const std::string& format) {
  int64_t major = 0, minor = 0;
  size_t at = 0;
  auto digits = [&](int64_t& value) {
    const size_t start = at;
    while (at < format.size() && at < start + 6 && format[at] >= '0' && format[at] <= '9')
      value = value * 10 + format[at++] - '0';
    return at > start;
  };
  if (!digits(major) || at >= format.size() || format[at++] != '.' || !digits(minor) || at != format.size())
    return refuse(TOROID_BAD_FILE, "manifest.json: format is not major.minor");
  if (major > format_major)
    return refuse(TOROID_UNSUPPORTED, "the package has format ", major, ".", minor, ", this runtime reads up to ",
                  format_major, ".", format_minor, " (and later minors)");
  if (major < format_major)
    return refuse(TOROID_UNSUPPORTED, "the package has format ", major, ".", minor, ", this runtime reads ",
                  format_major, ".x");
  return {};
}

}  // namespace

Outcome<Manifest> read_manifest(std::string_view text) {
  if (nesting(text) > 64) return refuse(TOROID_BAD_FILE, "manifest.json is nested too deep");
  const Json j = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!j.is_object()) return refuse(TOROID_BAD_FILE, "manifest.json is not a JSON object");
  Fields fields;
  const std::string format = fields.text(j, "format");
  if (!fields.missing.empty()) return refuse(TOROID_BAD_FILE, "manifest.json: `format` is missing");
  RT_CHECK(check_format(format));
  Manifest m;
  m.model = fields.text(j, "model");
  m.target = fields.text(j, "target");
  if (const Json* list = fields.find(j, "features")) {
    if (!list->is_array() || list->size() > 256) return refuse(TOROID_BAD_FILE, "manifest.json: `features` is no list");
    for (const Json& feature : *list) {
      if (!feature.is_string()) return refuse(TOROID_BAD_FILE, "manifest.json: `features` holds no text");
      m.features.push_back(feature.get<std::string>());
    }
  }
  if (const Json* code = fields.find(j, "code")) {
    m.code_file = fields.text(*code, "file");
    m.code_sha256 = fields.text(*code, "sha256");
    m.code_bytes = fields.number(*code, "bytes");
  }
  if (const auto weights = j.find("weights"); weights != j.end()) {
    m.weights_file = fields.text(*weights, "file");
    m.weights_hash = fields.text(*weights, "xxh3_128_of_pieces");
    m.weights_bytes = fields.number(*weights, "bytes");
  }
  if (!fields.missing.empty())
    return refuse(TOROID_BAD_FILE, "manifest.json: `", fields.missing, "` is missing or of another type");
  return m;
}

Outcome<std::vector<std::pair<std::string, std::string>>> read_metadata(std::string_view text) {
  const Json j = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!j.is_object()) return refuse(TOROID_BAD_FILE, "the metadata is not a JSON object");
  std::vector<std::pair<std::string, std::string>> out;
  for (const auto& [key, value] : j.items()) {
    if (!value.is_string()) return refuse(TOROID_BAD_FILE, "the metadata holds something other than text");
    out.emplace_back(key, value.get<std::string>());
  }
  return out;
}

}  // namespace toroid::runtime
