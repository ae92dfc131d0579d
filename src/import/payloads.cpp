// Weights of an archive: payload configs, and storages mapped in place with every offset checked.
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "import/program.h"

namespace toroid {
namespace {

// A record without bytes stands for zeros; more than this is a lie.
constexpr int64_t max_zero_bytes = int64_t{1} << 36;
constexpr size_t alignment = 16;

// Bytes that a strided view reaches from the start of its storage; nothing when it reaches none. Too many: -1.
std::optional<int64_t> bytes_reached(const Weight& weight) {
  __int128 last = weight.storage_offset;
  for (size_t i = 0; i < weight.type.sizes.size(); ++i) {
    const int64_t size = weight.type.sizes[i].value(), stride = weight.type.strides[i].value();
    if (size == 0) return 0;
    if (stride < 0) return std::nullopt;
    last += static_cast<__int128>(size - 1) * stride;
    if (last > INT64_MAX / 64) return std::nullopt;
  }
  if (weight.storage_offset < 0 || last > INT64_MAX / 64) return std::nullopt;
  return static_cast<int64_t>(last + 1) * dtype_bytes(weight.type.dtype);
}

std::shared_ptr<void> zeroed(size_t bytes) {
  return std::shared_ptr<void>(std::calloc(std::max<size_t>(bytes, 1), 1), std::free);
}

}  // namespace

Result<Payloads> Payloads::open(const Archive& archive, const std::string& model) {
  Payloads payloads;
  payloads.archive_ = &archive;
  for (const char* kind : {"weights", "constants"}) {
    Config config;
    config.folder = format("data/{}/", kind);
    const std::string name = format("{}{}_{}_config.json", config.folder, model, kind);
    if (!archive.has(name)) {
      if (archive.has(format("{}{}.pt", config.folder, model)))
        return fail(Kind::unsupported,
                    "`{}` keeps its {} as a pickle (`{}{}.pt`); save it again with PyTorch 2.9 or later",
                    archive.path(), kind, config.folder, model);
      continue;
    }
    TD_TRY(Member member, archive.read(name, true));
    TD_TRY(config.document, JsonDocument::parse(name, member.bytes));
    config.document->root()["config"].each_field(
        [&](std::string_view key, const Json& entry) { config.entries.emplace(key, entry); });
    TD_CHECK_OK(config.document->status());
    payloads.configs_.push_back(std::move(config));
  }
  return payloads;
}

Result<Weight> Payloads::weight(const std::string& name, WeightKind kind, bool persistent,
                                std::vector<Storage>& storages, MetaReader& meta) {
  const Config* config = nullptr;
  Json entry;
  for (const Config& candidate : configs_) {
    auto found = candidate.entries.find(name);
    if (found == candidate.entries.end()) continue;
    // The same name in both: persistent ones are weights, the others constants.
    const bool in_constants = candidate.folder == "data/constants/";
    if (!config || in_constants == (kind == WeightKind::constant || !persistent))
      config = &candidate, entry = found->second;
  }
  if (!config) return fail(Kind::bad_file, "`{}` has no payload for `{}`", archive_->path(), name);
  const std::string member_name = config->folder + std::string(entry["path_name"].text());
  if (entry["use_pickle"].boolean())
    return fail(Kind::unsupported, "`{}` is stored as a pickle, a tensor subclass", name);
  TD_TRY(TensorMeta tensor, meta.tensor(entry["tensor_meta"]));
  TD_CHECK_OK(config->document->status());
  Weight weight;
  weight.name = name;
  weight.kind = kind;
  weight.persistent = persistent;
  weight.type = tensor.type;
  for (const SymList& list : {tensor.type.sizes, tensor.type.strides, SymList{tensor.storage_offset}})
    for (const Sym& size : list)
      if (!size.is_constant())
        return fail(Kind::bad_file, "payload `{}` has the symbolic size `{}`", name, to_string(size));
  weight.storage_offset = tensor.storage_offset.value();
  std::optional<int64_t> reached = bytes_reached(weight);
  if (!reached) return fail(Kind::bad_file, "payload `{}` has sizes and strides that no memory holds", name);

  auto known = storages_.find(member_name);
  if (known == storages_.end()) {
    TD_TRY(Member member, archive_->read(member_name, false));
    Storage storage{member.bytes.data(), static_cast<int64_t>(member.bytes.size()), member.owner};
    if (member.bytes.empty()) {
      if (*reached > max_zero_bytes)
        return fail(Kind::bad_file, "payload `{}` claims {} zeros", name, bytes_text(*reached));
      std::shared_ptr<void> zeros = zeroed(static_cast<size_t>(*reached));
      if (!zeros) return fail(Kind::io, "no memory for the {} of `{}`", bytes_text(*reached), name);
      storage = {zeros.get(), *reached, zeros};
    } else if (reinterpret_cast<uintptr_t>(storage.data) % alignment != 0) {
      // Only archives that PyTorch did not write are not aligned.
      std::shared_ptr<void> copy = zeroed(member.bytes.size());
      if (!copy) return fail(Kind::io, "no memory for the {} of `{}`", bytes_text(storage.bytes), name);
      std::memcpy(copy.get(), storage.data, member.bytes.size());
      storage = {copy.get(), storage.bytes, copy};
    }
    known = storages_.emplace(member_name, static_cast<int32_t>(storages.size())).first;
    storages.push_back(std::move(storage));
  }
  weight.storage = known->second;
  if (*reached > storages[static_cast<size_t>(weight.storage)].bytes)
    return fail(Kind::bad_file, "payload `{}` needs {} bytes, its member `{}` has {}", name, *reached, member_name,
                storages[static_cast<size_t>(weight.storage)].bytes);
  return weight;
}

}  // namespace toroid
