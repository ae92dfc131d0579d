// Parses a member's JSON, and reads values with one place for faults.
#include "import/json.h"

#include <cmath>
#include <limits>

#include "base/text.h"

namespace toroid {

Result<std::unique_ptr<JsonDocument>> JsonDocument::parse(std::string member, std::string_view text) {
  auto document = std::make_unique<JsonDocument>();
  document->member_ = std::move(member);
  // Shallower than the stack, deeper than any exported program.
  constexpr size_t max_depth = 512;
  simdjson::error_code failure = document->parser_.allocate(text.size() + 1, max_depth);
  if (!failure) failure = document->parser_.parse(text.data(), text.size(), true).get(document->root_);
  if (failure)
    return fail(Kind::bad_file, "member `{}` is not JSON: {}", document->member_, simdjson::error_message(failure));
  return document;
}

Status JsonDocument::status() const {
  if (fault_.empty()) return {};
  return fail(Kind::bad_file, "member `{}`: {}", member_, fault_);
}

void JsonDocument::fault(std::string text) {
  if (fault_.empty()) fault_ = std::move(text);
}

void Json::fault(std::string_view what) const {
  if (!document_) return;
  std::string found = present_ ? simdjson::minify(element_) : "nothing";
  constexpr size_t enough = 60;
  if (found.size() > enough) found = found.substr(0, enough) + "…";
  document_->fault(format("expected {}, found `{}`", what, found));
}

Json Json::find(std::string_view key) const {
  Json missing;
  missing.document_ = document_;
  if (!is_object()) return missing;
  simdjson::dom::element value;
  if (element_.at_key(key).get(value)) return missing;
  return Json(document_, value);
}

Json Json::operator[](std::string_view key) const {
  Json value = find(key);
  if (!value.present_) fault(format("an object with `{}`", key));
  return value;
}

std::string_view Json::text() const {
  std::string_view value;
  if (!present_ || element_.get_string().get(value)) fault("a string");
  return value;
}

int64_t Json::integer() const {
  int64_t value = 0;
  if (!present_ || element_.get_int64().get(value)) fault("an integer");
  return value;
}

double Json::number() const {
  if (is_string()) {
    std::string_view word = text();
    if (word == "Infinity") return std::numeric_limits<double>::infinity();
    if (word == "-Infinity") return -std::numeric_limits<double>::infinity();
    if (word == "NaN") return std::numeric_limits<double>::quiet_NaN();
  }
  double value = 0;
  if (!present_ || element_.get_double().get(value)) fault("a number");
  return value;
}

bool Json::boolean() const {
  bool value = false;
  if (!present_ || element_.get_bool().get(value)) fault("true or false");
  return value;
}

size_t Json::size() const {
  simdjson::dom::array array;
  if (present_ && !element_.get_array().get(array)) return array.size();
  simdjson::dom::object object;
  if (present_ && !element_.get_object().get(object)) return object.size();
  fault("an array");
  return 0;
}

std::pair<std::string_view, Json> Json::tagged() const {
  simdjson::dom::object object;
  if (!present_ || element_.get_object().get(object) || object.size() != 1) {
    fault("an object with one key");
    Json missing;
    missing.document_ = document_;
    return {"", missing};
  }
  auto field = *object.begin();
  return {field.key, Json(document_, field.value)};
}

}  // namespace toroid
