// Lays out the archive, writes and hashes its parts in one pass, and puts the file under its name.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/check.h"
#include "base/file.h"
#include "package/crc32.h"
#include "package/layout.h"
#include "package/package.h"
#include "sha256.h"
#include "weights_hash.h"

namespace toroid::package {
namespace {

constexpr uint64_t page = 4096;

double milliseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

std::string json_string(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\')
      out += '\\', out += c;
    else if (static_cast<unsigned char>(c) < 32)
      append(out, "\\u{:04x}", static_cast<int>(c));
    else
      out += c;
  }
  return out + "\"";
}

// {"key": "value", …}: PyTorch's metadata takes strings only.
std::string metadata_text(const ModelContents& model, const std::string& version) {
  std::vector<std::pair<std::string, std::string>> fields = {
      {"AOTI_DEVICE_KEY", "cpu"}, {"TOROID_VERSION", version}, {"TOROID_TARGET", model.target}};
  fields.insert(fields.end(), model.metadata.begin(), model.metadata.end());
  std::string out;
  for (const auto& [key, value] : fields)
    append(out, "{}{}: {}", out.empty() ? "{" : ", ", json_string(key), json_string(value));
  return out + "}";
}

std::string manifest_text(const ModelContents& model, const std::string& version, const std::string& code_sha256,
                          const std::string& weights_hash) {
  std::string features;
  for (const std::string& feature : model.features)
    append(features, "{}{}", features.empty() ? "" : ", ", json_string(feature));
  std::string out = "{\n";
  append(out, " \"format\": \"1.0\",\n \"toroid\": {},\n \"compiler\": {},\n", json_string(version),
         json_string(model.compiler));
  append(out, " \"model\": {},\n \"target\": {},\n \"features\": [{}],\n", json_string(model.name),
         json_string(model.target), features);
  append(out, " \"default_threads\": {},\n", model.default_threads);
  append(out, " \"code\": {{\"file\": \"m.wrapper.so\", \"bytes\": {}, \"sha256\": \"{}\"}}", model.code.size(),
         code_sha256);
  if (model.weights_bytes > 0)
    append(out,
           ",\n \"weights\": {{\"file\": \"weights.bin\", \"bytes\": {}, \"xxh3_128_of_pieces\": \"{}\", "
           "\"mutated_bytes\": {}}}",
           model.weights_bytes, weights_hash, model.mutated_bytes);
  if (!model.signature.empty()) append(out, ",\n \"signature\": {}", model.signature);
  if (!model.recipes.empty()) append(out, ",\n \"recipes\": {}", model.recipes);
  if (!model.report.empty()) append(out, ",\n \"report\": {}", model.report);
  return out + "\n}\n";
}

// Where an archive's bytes go: a file or memory.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual Status put(uint64_t at, std::string_view bytes) = 0;
  // Memory to write into instead of `put`; null where there is none.
  virtual char* place(uint64_t at) = 0;
};

class MemorySink : public Sink {
 public:
  explicit MemorySink(char* archive) : archive_(archive) {}
  Status put(uint64_t at, std::string_view bytes) override {
    if (!bytes.empty()) std::memcpy(archive_ + at, bytes.data(), bytes.size());
    return {};
  }
  char* place(uint64_t at) override { return archive_ + at; }

 private:
  char* archive_;
};

// Writes by system call: unlike through a mapping, no page is zeroed or faulted in first, and a full disk is an error.
class FileSink : public Sink {
 public:
  FileSink(int fd, const std::string& path) : fd_(fd), path_(path) {}
  Status put(uint64_t at, std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t count = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(at));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0)
        return fail(Kind::io, "cannot write `{}`: {}", path_, system_error_text(count < 0 ? errno : ENOSPC));
      at += static_cast<uint64_t>(count);
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return {};
  }
  char* place(uint64_t) override { return nullptr; }

 private:
  int fd_;
  const std::string& path_;
};

// weights.bin on its way: threads take pieces, write, hash and put each while it is in their cache.
class WeightsWriter {
 public:
  WeightsWriter(const ModelContents& model, const LayoutMember& place, Sink& sink)
      : model_(model),
        place_(place),
        sink_(sink),
        hashes_((place.bytes + piece_bytes - 1) / piece_bytes),
        crcs_(hashes_.size()) {}

  Status run(PackageTimes* times) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> helpers;
    const size_t count = std::clamp<size_t>(static_cast<size_t>(std::max(model_.jobs, 1)), 1, hashes_.size());
    for (size_t i = 1; i < count; ++i) helpers.emplace_back([this] { work(); });
    work();
    for (std::thread& helper : helpers) helper.join();
    if (times) {
      const double share =
          milliseconds_since(start) / std::max(spent_.weights_ms + spent_.hash_ms + spent_.file_ms, 1e-9);
      times->weights_ms += spent_.weights_ms * share;
      times->hash_ms += spent_.hash_ms * share;
      times->file_ms += spent_.file_ms * share;
    }
    return status_;
  }
  std::string hash() const { return runtime::hash_of_pieces(hashes_); }
  uint32_t crc() const {
    uint32_t all = crcs_[0];
    for (size_t i = 1; i < crcs_.size(); ++i) all = crc32_joined(all, crcs_[i], size_of(i));
    return all;
  }

 private:
  static constexpr uint64_t piece_bytes = runtime::weights_piece_bytes;

  uint64_t size_of(size_t piece) const { return std::min(piece_bytes, place_.bytes - piece * piece_bytes); }

  void work() {
    PackageTimes spent;
    std::vector<std::byte> buffer;
    Status status;
    for (size_t i; status && (i = next_++) < hashes_.size();) status = write_piece(i, buffer, spent);
    const std::lock_guard lock(mutex_);
    spent_.weights_ms += spent.weights_ms;
    spent_.hash_ms += spent.hash_ms;
    spent_.file_ms += spent.file_ms;
    if (status) return;
    if (status_) status_ = std::move(status);
    next_ = hashes_.size();
  }

  Status write_piece(size_t i, std::vector<std::byte>& buffer, PackageTimes& spent) {
    auto start = std::chrono::steady_clock::now();
    auto lap = [&] {
      const double ms = milliseconds_since(start);
      start = std::chrono::steady_clock::now();
      return ms;
    };
    const uint64_t begin = i * piece_bytes, at = place_.data + begin;
    std::byte* out = reinterpret_cast<std::byte*>(sink_.place(at));
    if (!out) {
      buffer.resize(piece_bytes);
      out = buffer.data();
    }
    const std::span<std::byte> piece(out, size_of(i));
    TD_CHECK_OK(model_.write_weights(begin, piece));
    spent.weights_ms += lap();
    hashes_[i] = runtime::hash_piece(piece);
    crcs_[i] = crc32(out, piece.size());
    spent.hash_ms += lap();
    if (!buffer.empty()) TD_CHECK_OK(sink_.put(at, {reinterpret_cast<const char*>(out), piece.size()}));
    spent.file_ms += lap();
    return {};
  }

  const ModelContents& model_;
  const LayoutMember& place_;
  Sink& sink_;
  std::vector<runtime::PieceHash> hashes_;
  std::vector<uint32_t> crcs_;
  std::atomic<size_t> next_ = 0;
  std::mutex mutex_;
  Status status_;
  PackageTimes spent_;
};

// A member: its text, or (for weights) who writes it.
struct Member {
  std::string text;
  const ModelContents* weights = nullptr;
  const ModelContents* manifest = nullptr;
  std::string_view view;  // of code, which is not copied
};

Status check_name(const std::string& name, const char* what) {
  if (name.empty() || name.size() > 200 || name[0] == '.')
    return fail(Kind::bad_option, "{} `{}` cannot be a folder's name in a package", what, name);
  for (const char c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-' && c != '.')
      return fail(Kind::bad_option, "{} `{}` cannot be a folder's name in a package", what, name);
  return {};
}

class Archive {
 public:
  explicit Archive(const PackageContents& contents, PackageTimes* times) : contents_(contents), times_(times) {}

  // Decides all sizes and places; returns the archive's size.
  Result<uint64_t> plan() {
    TD_CHECK_OK(check_name(contents_.prefix, "prefix"));
    for (const ModelContents& model : contents_.models) {
      TD_CHECK_OK(check_name(model.name, "model name"));
      TD_CHECK(model.weights_bytes == 0 || model.write_weights, "nobody writes the weights of `{}`", model.name);
      const std::string folder = contents_.prefix + "/data/aotinductor/" + model.name + "/";
      add(folder + "m.wrapper.so", {.view = model.code}, 64, model.code.size());
      add_text(folder + "m.wrapper_metadata.json", metadata_text(model, contents_.toroid_version));
      if (model.weights_bytes > 0)
        add(folder + "weights.bin", {.weights = &model}, page, static_cast<uint64_t>(model.weights_bytes));
      const auto start = std::chrono::steady_clock::now();
      code_hashes_.push_back(runtime::sha256_hex(model.code.data(), model.code.size()));
      if (times_) times_->hash_ms += milliseconds_since(start);
      // The weights' hash is known later and has as many digits.
      const std::string manifest =
          manifest_text(model, contents_.toroid_version, code_hashes_.back(), std::string(32, '0'));
      add(folder + "manifest.json", {.text = manifest, .manifest = &model}, 64, manifest.size());
      for (const auto& [name, text] : model.texts) add_text(folder + name, text);
    }
    add_text(contents_.prefix + "/archive_format", "pt2");
    add_text(contents_.prefix + "/archive_version", "0");
    add_text(contents_.prefix + "/.data/version", "6\n");
    add_text(contents_.prefix + "/byteorder", "little");
    std::vector<std::string> names;
    for (const LayoutMember& m : layout_) names.push_back(m.name);
    std::sort(names.begin(), names.end());
    if (auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
      return fail(Kind::bad_option, "the package would hold `{}` twice", *twice);
    return place_members(layout_);
  }

  Status write(Sink& sink) {
    std::string weights_hash;
    for (size_t i = 0; i < layout_.size(); ++i) {
      LayoutMember& place = layout_[i];
      Member& member = members_[i];
      if (member.weights) {
        WeightsWriter writer(*member.weights, place, sink);
        TD_CHECK_OK(writer.run(times_));
        weights_hash = writer.hash();
        place.crc32 = writer.crc();
      } else {
        if (member.manifest) {
          const size_t model = static_cast<size_t>(member.manifest - contents_.models.data());
          member.text = manifest_text(*member.manifest, contents_.toroid_version, code_hashes_[model], weights_hash);
          TD_CHECK(member.text.size() == place.bytes, "the manifest changed its size");
        }
        const std::string_view bytes = member.view.data() ? member.view : std::string_view(member.text);
        place.crc32 = crc32(bytes.data(), bytes.size());
        TD_CHECK_OK(sink.put(place.data, bytes));
      }
      TD_CHECK_OK(sink.put(place.header, local_record(place)));
    }
    return sink.put(layout_.back().data + layout_.back().bytes, directory_records(layout_));
  }

 private:
  void add(std::string name, Member member, uint64_t alignment, uint64_t bytes) {
    layout_.push_back({.name = std::move(name), .bytes = bytes, .alignment = alignment});
    members_.push_back(std::move(member));
  }
  void add_text(std::string name, std::string text) {
    const uint64_t bytes = text.size();
    add(std::move(name), {.text = std::move(text)}, 64, bytes);
  }

  const PackageContents& contents_;
  PackageTimes* times_;
  std::vector<LayoutMember> layout_;
  std::vector<Member> members_;
  std::vector<std::string> code_hashes_;
};

}  // namespace

MemoryPackage::~MemoryPackage() {
  if (data_) ::munmap(data_, bytes_);
}

Result<MemoryPackage> write_package_to_memory(const PackageContents& contents, PackageTimes* times) {
  Archive archive(contents, times);
  TD_TRY(const uint64_t bytes, archive.plan());
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED)
    return fail(Kind::io, "no memory for a package of {}", bytes_text(static_cast<int64_t>(bytes)));
  MemoryPackage package(data, bytes);
  MemorySink sink(static_cast<char*>(data));
  TD_CHECK_OK(archive.write(sink));
  return package;
}

Status write_package(const PackageContents& contents, const std::string& path, PackageTimes* times) {
  Archive archive(contents, times);
  TD_CHECK_OK(archive.plan());
  TD_TRY(AtomicFile file, AtomicFile::create(path));
  FileSink sink(file.fd(), path);
  TD_CHECK_OK(archive.write(sink));
  const auto start = std::chrono::steady_clock::now();
  TD_CHECK_OK(file.commit());
  if (times) times->file_ms += milliseconds_since(start);
  return {};
}

}  // namespace toroid::package
