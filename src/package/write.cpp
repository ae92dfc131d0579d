// Lays out the archive, lets each part write itself into place, hashes, and puts the file under its name.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/check.h"
#include "base/file.h"
#include "base/hash.h"
#include "package/layout.h"
#include "package/package.h"
#include "sha256.h"

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
           ",\n \"weights\": {{\"file\": \"weights.bin\", \"bytes\": {}, \"xxh3_128\": \"{}\", \"mutated_bytes\": {}}}",
           model.weights_bytes, weights_hash, model.mutated_bytes);
  if (!model.signature.empty()) append(out, ",\n \"signature\": {}", model.signature);
  if (!model.recipes.empty()) append(out, ",\n \"recipes\": {}", model.recipes);
  if (!model.report.empty()) append(out, ",\n \"report\": {}", model.report);
  return out + "\n}\n";
}

// zlib's CRC-32 runs at about 1 GB/s: large members are cut into pieces for a few threads.
uint32_t crc32_of(const char* data, uint64_t bytes) {
  constexpr uint64_t piece = 16u << 20;
  const uint64_t pieces = (bytes + piece - 1) / piece;
  auto crc_of_piece = [&](uint64_t i) {
    const uint64_t begin = i * piece, size = std::min(piece, bytes - begin);
    return static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(data + begin), size));
  };
  if (pieces < 2) return bytes ? crc_of_piece(0) : 0;
  std::vector<uint32_t> parts(pieces);
  std::vector<std::thread> threads;
  const uint64_t workers = std::clamp<uint64_t>(std::thread::hardware_concurrency(), 1, std::min<uint64_t>(pieces, 8));
  for (uint64_t w = 0; w < workers; ++w)
    threads.emplace_back([&, w] {
      for (uint64_t i = w; i < pieces; i += workers) parts[i] = crc_of_piece(i);
    });
  for (std::thread& thread : threads) thread.join();
  uint32_t crc = parts[0];
  for (uint64_t i = 1; i < pieces; ++i)
    crc =
        static_cast<uint32_t>(::crc32_combine(crc, parts[i], static_cast<z_off_t>(std::min(piece, bytes - i * piece))));
  return crc;
}

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

  // `archive` is zeroed memory of the planned size.
  Status fill(char* archive) {
    std::string weights_hash;
    for (size_t i = 0; i < layout_.size(); ++i) {
      LayoutMember& place = layout_[i];
      Member& member = members_[i];
      char* data = archive + place.data;
      if (member.weights) {
        auto start = std::chrono::steady_clock::now();
        TD_CHECK_OK(member.weights->write_weights({reinterpret_cast<std::byte*>(data), place.bytes}));
        if (times_) times_->weights_ms += milliseconds_since(start);
        start = std::chrono::steady_clock::now();
        weights_hash = hash_bytes(data, place.bytes).hex();
        place.crc32 = crc32_of(data, place.bytes);
        if (times_) times_->hash_ms += milliseconds_since(start);
        continue;
      }
      if (member.manifest) {
        const size_t model = static_cast<size_t>(member.manifest - contents_.models.data());
        member.text = manifest_text(*member.manifest, contents_.toroid_version, code_hashes_[model], weights_hash);
        TD_CHECK(member.text.size() == place.bytes, "the manifest changed its size");
      }
      const std::string_view bytes = member.view.data() ? member.view : std::string_view(member.text);
      if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
      place.crc32 = crc32_of(data, place.bytes);
    }
    write_records(layout_, archive);
    return {};
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
  TD_CHECK_OK(archive.fill(static_cast<char*>(data)));
  return package;
}

Status write_package(const PackageContents& contents, const std::string& path, PackageTimes* times) {
  Archive archive(contents, times);
  TD_TRY(const uint64_t bytes, archive.plan());
  auto start = std::chrono::steady_clock::now();
  TD_TRY(AtomicFile file, AtomicFile::create(path));
  // All space is taken first: writing through a mapping to a full disk would be a signal, not an error.
  if (const int error = ::posix_fallocate(file.fd(), 0, static_cast<off_t>(bytes)))
    return fail(Kind::io, "cannot write `{}` ({}): {}", path, bytes_text(static_cast<int64_t>(bytes)),
                system_error_text(error));
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd(), 0);
  if (data == MAP_FAILED) return fail(Kind::io, "cannot map `{}`: {}", path, system_error_text(errno));
  MemoryPackage mapping(data, bytes);
  if (times) times->file_ms += milliseconds_since(start);
  TD_CHECK_OK(archive.fill(static_cast<char*>(data)));
  start = std::chrono::steady_clock::now();
  TD_CHECK_OK(file.commit());
  if (times) times->file_ms += milliseconds_since(start);
  return {};
}

}  // namespace toroid::package
