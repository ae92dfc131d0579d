// JSON values of a member, read without a check at every step: the first fault is kept by the document, later reads
// give empty values, and the reader asks `status()` before it believes anything.
#pragma once
#include <simdjson.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace toroid {

class JsonDocument;

class Json {
 public:
  Json() = default;
  Json(JsonDocument* document, simdjson::dom::element element)
      : document_(document), element_(element), present_(true) {}

  bool present() const { return present_; }
  bool is_null() const { return !present_ || element_.is_null(); }
  bool is_object() const { return present_ && element_.is_object(); }
  bool is_array() const { return present_ && element_.is_array(); }
  bool is_string() const { return present_ && element_.is_string(); }
  bool is_integer() const { return present_ && element_.is_int64(); }
  // A field that must be there; `find` gives an absent value instead of a fault.
  Json operator[](std::string_view key) const;
  Json find(std::string_view key) const;

  std::string_view text() const;
  int64_t integer() const;
  double number() const;  // integers and "Infinity", "-Infinity", "NaN" too
  bool boolean() const;
  size_t size() const;  // of an array or object
  // Calls visit(Json) for each item of an array; stops at the first fault.
  template <class Visit>
  void each(Visit visit) const;
  // Calls visit(std::string_view key, Json) for each field of an object.
  template <class Visit>
  void each_field(Visit visit) const;
  // A union is an object with one key: its tag, and the value under it.
  std::pair<std::string_view, Json> tagged() const;
  // Notes a fault: `what` was expected here.
  void fault(std::string_view what) const;
  bool ok() const;

 private:
  JsonDocument* document_ = nullptr;
  simdjson::dom::element element_;
  bool present_ = false;
};

class JsonDocument {
 public:
  // `member` names the text in messages. The text is copied, since the parser reads beyond its end.
  static Result<std::unique_ptr<JsonDocument>> parse(std::string member, std::string_view text);
  Json root() { return Json(this, root_); }
  Status status() const;
  void fault(std::string text);
  bool ok() const { return fault_.empty(); }

 private:
  std::string member_, fault_;
  simdjson::dom::parser parser_;
  simdjson::dom::element root_;
};

inline bool Json::ok() const { return document_ && document_->ok(); }

template <class Visit>
void Json::each(Visit visit) const {
  if (!is_array()) return fault("an array");
  for (simdjson::dom::element item : simdjson::dom::array(element_.get_array())) {
    if (!ok()) return;
    visit(Json(document_, item));
  }
}

template <class Visit>
void Json::each_field(Visit visit) const {
  if (!is_object()) return fault("an object");
  for (auto field : simdjson::dom::object(element_.get_object())) {
    if (!ok()) return;
    visit(std::string_view(field.key), Json(document_, field.value));
  }
}

}  // namespace toroid
