// The manifest as JSON text and back. Reading trusts nothing: every field has its type, every name
// its pattern, every size its bound, before anything is allocated or opened by it.
#include "io/manifest.h"

#include "core/packed.h"
#include "files/input_file.h"
#include "io/state_digest.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <limits>

namespace lockstep {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kFormatName = "lockstep checkpoint";
constexpr std::int64_t kMaxManifestBytes = std::int64_t{256} << 20;
constexpr std::int64_t kMaxTensorBytes = std::int64_t{1} << 56;
constexpr std::size_t kMaxShards = 99999;
// The file ends with SEAL, 64 hex digits, "\"\n}\n" in every version of the format.
constexpr std::string_view kSeal = ",\n  \"manifest_sha256\": \"";
constexpr std::string_view kSealEnd = "\"\n}\n";
constexpr std::size_t kHexDigits = 64;

constexpr DType kDTypes[] = {DType::kF32, DType::kBF16, DType::kF16, DType::kI32,
                             DType::kI64, DType::kU8,   DType::kF64};

// A field of the wrong kind; parse_manifest adds the path.
struct BadField {
  std::string text;
};

const Json& member(const Json& object, const char* key) {
  if (!object.is_object()) throw BadField{fmt::format("no object around '{}'", key)};
  const auto found = object.find(key);
  if (found == object.end()) throw BadField{fmt::format("'{}' is missing", key)};
  return *found;
}

std::int64_t as_integer(const Json& value, const char* key, std::int64_t least = 0) {
  const bool too_large = value.is_number_unsigned() &&
                         value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max();
  if (!value.is_number_integer() || too_large || value.get<std::int64_t>() < least) {
    throw BadField{fmt::format("'{}' is not an integer of at least {}", key, least)};
  }
  return value.get<std::int64_t>();
}

std::int64_t integer(const Json& object, const char* key, std::int64_t least = 0) {
  return as_integer(member(object, key), key, least);
}

double number(const Json& object, const char* key) {
  const Json& value = member(object, key);
  if (!value.is_number()) throw BadField{fmt::format("'{}' is not a number", key)};
  return value.get<double>();
}

std::string string(const Json& object, const char* key) {
  const Json& value = member(object, key);
  if (!value.is_string()) throw BadField{fmt::format("'{}' is not a string", key)};
  return value.get<std::string>();
}

const Json& array(const Json& object, const char* key) {
  const Json& value = member(object, key);
  if (!value.is_array()) throw BadField{fmt::format("'{}' is not a list", key)};
  return value;
}

std::string digest(const Json& object, const char* key) {
  std::string text = string(object, key);
  if (!digest_from_hex(text)) throw BadField{fmt::format("'{}' is not a SHA-256", key)};
  return text;
}

Json to_json(const CheckpointMeta& meta) {
  Json json = {{"step", meta.step},
               {"updates", meta.updates},
               {"tokens", meta.tokens},
               {"data_counter", meta.data_counter},
               {"seed", meta.seed},
               {"loss_scale", meta.loss_scale},
               {"good_steps", meta.good_steps},
               {"skips_in_row", meta.skips_in_row},
               {"skipped", meta.skipped},
               {"best_val_loss", nullptr},
               {"world_size", meta.world_size},
               {"run_id", meta.run_id},
               {"started_from", meta.started_from},
               {"config", meta.config},
               {"gemm_plan", meta.gemm_plan},
               {"git_revision", meta.git_revision},
               {"data_fingerprint", meta.data_fingerprint},
               {"time", meta.time}};
  if (meta.best_val_loss) json["best_val_loss"] = *meta.best_val_loss;
  if (meta.best_step) json["best_step"] = *meta.best_step;
  if (!meta.generation_config.empty()) json["generation_config"] = meta.generation_config;
  return json;
}

CheckpointMeta meta_from(const Json& json) {
  CheckpointMeta meta;
  meta.step = integer(json, "step");
  meta.updates = integer(json, "updates");
  meta.tokens = integer(json, "tokens");
  meta.data_counter = integer(json, "data_counter");
  const Json& seed = member(json, "seed");
  if (!seed.is_number_unsigned()) throw BadField{"'seed' is not a non-negative integer"};
  meta.seed = seed.get<std::uint64_t>();
  meta.loss_scale = number(json, "loss_scale");
  meta.good_steps = integer(json, "good_steps");
  meta.skips_in_row = integer(json, "skips_in_row");
  meta.skipped = integer(json, "skipped");
  if (!member(json, "best_val_loss").is_null()) meta.best_val_loss = number(json, "best_val_loss");
  if (json.contains("best_step")) meta.best_step = integer(json, "best_step");
  const std::int64_t world_size = integer(json, "world_size", 1);
  if (world_size > std::numeric_limits<int>::max()) throw BadField{"'world_size' is too large"};
  meta.world_size = static_cast<int>(world_size);
  meta.run_id = string(json, "run_id");
  meta.started_from = string(json, "started_from");
  meta.config = string(json, "config");
  meta.gemm_plan = string(json, "gemm_plan");
  meta.git_revision = string(json, "git_revision");
  meta.data_fingerprint = string(json, "data_fingerprint");
  meta.time = string(json, "time");
  if (json.contains("generation_config")) {
    meta.generation_config = string(json, "generation_config");
  }
  return meta;
}

Json to_json(const ManifestFile& file) {
  return {{"file", file.file}, {"bytes", file.bytes}, {"sha256", file.sha256}};
}

Json ranges_json(const std::vector<RowRange>& ranges) {
  Json list = Json::array();
  for (const RowRange& range : ranges) {
    list.push_back({range.tensor, range.row_begin, range.rows});
  }
  return list;
}

std::vector<RowRange> ranges_from(const Json& list) {
  std::vector<RowRange> ranges;
  for (const Json& item : list) {
    if (!item.is_array() || item.size() != 3) throw BadField{"a range is not three integers"};
    ranges.push_back({static_cast<std::size_t>(as_integer(item[0], "ranges")),
                      as_integer(item[1], "ranges"), as_integer(item[2], "ranges", 1)});
  }
  return ranges;
}

Json shape_json(const Shape& shape) {
  Json dims = Json::array();
  for (int axis = 0; axis < shape.rank(); ++axis) dims.push_back(shape[axis]);
  return dims;
}

Shape shape_from(const Json& list) {
  std::vector<std::int64_t> d;
  for (const Json& dim : list) d.push_back(as_integer(dim, "shape", 1));
  switch (d.size()) {
    case 1: return {d[0]};
    case 2: return {d[0], d[1]};
    case 3: return {d[0], d[1], d[2]};
    case 4: return {d[0], d[1], d[2], d[3]};
    default: throw BadField{fmt::format("a shape has {} dimensions", d.size())};
  }
}

// Refuses sizes that do not fit, before anybody multiplies them.
void check_size(const StateTensor& tensor) {
  std::int64_t bytes = static_cast<std::int64_t>(size_of(tensor.dtype));
  for (int axis = 0; axis < tensor.shape.rank(); ++axis) {
    if (tensor.shape[axis] > kMaxTensorBytes / bytes) {
      throw BadField{fmt::format("tensor '{}' is impossibly large", tensor.name)};
    }
    bytes *= tensor.shape[axis];
  }
}

std::vector<StateTensor> tensors_from(const Json& list) {
  std::vector<StateTensor> tensors;
  std::vector<std::string> names;
  for (const Json& item : list) {
    StateTensor tensor;
    tensor.name = string(item, "name");
    if (!is_tensor_name(tensor.name)) {
      throw BadField{fmt::format("'{:.200}' is no tensor name", Json(tensor.name).dump())};
    }
    const std::string dtype = string(item, "dtype");
    const auto found = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                    [&](DType d) { return name_of(d) == dtype; });
    if (found == std::end(kDTypes)) throw BadField{"unknown dtype of " + tensor.name};
    tensor.dtype = *found;
    tensor.shape = shape_from(array(item, "shape"));
    check_size(tensor);
    names.push_back(tensor.name);
    tensors.push_back(std::move(tensor));
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) throw BadField{"tensor '" + *twice + "' is listed twice"};
  return tensors;
}

void read_file_fields(ManifestFile& file, const Json& item) {
  file.file = string(item, "file");
  file.bytes = integer(item, "bytes");
  file.sha256 = digest(item, "sha256");
}

std::vector<ManifestShard> shards_from(const Json& list) {
  if (list.empty() || list.size() > kMaxShards) {
    throw BadField{fmt::format("{} shards", list.size())};
  }
  std::vector<ManifestShard> shards;
  for (const Json& item : list) {
    ManifestShard shard;
    read_file_fields(shard, item);
    const std::string expected =
        shard_file_name(static_cast<int>(shards.size()), static_cast<int>(list.size()));
    if (shard.file != expected) {
      throw BadField{
          fmt::format("shard file {:.200} should be {}", Json(shard.file).dump(), expected)};
    }
    shard.ranges = ranges_from(array(item, "ranges"));
    shards.push_back(std::move(shard));
  }
  return shards;
}

std::vector<ManifestFile> tokenizer_from(const Json& list) {
  std::vector<ManifestFile> files;
  for (const Json& item : list) {
    ManifestFile file;
    read_file_fields(file, item);
    if (!is_tokenizer_file_name(file.file)) {
      throw BadField{
          fmt::format("tokenizer file {:.200} is not a plain file name", Json(file.file).dump())};
    }
    files.push_back(std::move(file));
  }
  return files;
}

// Sizes and coverage: what single fields cannot show.
void check_whole(const Manifest& manifest) {
  std::vector<std::vector<RowRange>> ranges;
  for (const ManifestShard& shard : manifest.shards) ranges.push_back(shard.ranges);
  if (const auto error = coverage_error(manifest.tensors, ranges)) throw BadField{*error};
  for (const ManifestShard& shard : manifest.shards) {
    std::int64_t left = shard.bytes;
    for (const RowRange& range : shard.ranges) {
      left -= range.rows * row_bytes(manifest.tensors[range.tensor]);
      if (left < 0) throw BadField{shard.file + " is too small for its tensors"};
    }
  }
}

void check_format(const Json& json, const std::string& path) {
  if (string(json, "format") != kFormatName) throw BadField{"'format' names something else"};
  const std::int64_t major = integer(json, "format_major");
  const std::int64_t minor = integer(json, "format_minor");
  if (major == kCheckpointFormatMajor) return;
  fail(ExitCode::kData,
       "{}: checkpoint format {}.{} cannot be read, this program reads {}.x (up to {}.{}): use {} "
       "lockstep",
       path, major, minor, kCheckpointFormatMajor, kCheckpointFormatMajor, kCheckpointFormatMinor,
       major > kCheckpointFormatMajor ? "a newer" : "the older");
}

Manifest manifest_from(const Json& json, const std::string& path) {
  check_format(json, path);
  Manifest manifest;
  manifest.meta = meta_from(member(json, "meta"));
  manifest.digest = digest(json, "state_digest");
  manifest.tensors = tensors_from(array(json, "tensors"));
  manifest.shards = shards_from(array(json, "shards"));
  manifest.tokenizer = tokenizer_from(array(json, "tokenizer"));
  check_whole(manifest);
  return manifest;
}

[[noreturn]] void fail_damaged(const std::string& path, const std::string& what) {
  fail(ExitCode::kData, "{}: damaged or not a checkpoint manifest: {}; use another checkpoint",
       path, what);
}

}  // namespace

std::string shard_file_name(int shard, int shards) {
  return fmt::format("shard-{:05}-of-{:05}.h5", shard, shards);
}

bool is_tokenizer_file_name(std::string_view name) {
  const std::size_t slash = name.find('/');
  if (slash != std::string_view::npos) {
    const std::string_view file = name.substr(slash + 1);
    return file.find('/') == std::string_view::npos && file.ends_with(".jinja") &&
           is_tokenizer_file_name(name.substr(0, slash)) && is_tokenizer_file_name(file);
  }
  static constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  return !name.empty() && name.size() <= 200 && name[0] != '.' &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::string manifest_text(const Manifest& manifest) {
  Json tensors = Json::array();
  for (const StateTensor& tensor : manifest.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"dtype", name_of(tensor.dtype)},
                       {"shape", shape_json(tensor.shape)}});
  }
  Json shards = Json::array();
  for (const ManifestShard& shard : manifest.shards) {
    Json item = to_json(static_cast<const ManifestFile&>(shard));
    item["ranges"] = ranges_json(shard.ranges);
    shards.push_back(std::move(item));
  }
  Json tokenizer = Json::array();
  for (const ManifestFile& file : manifest.tokenizer) tokenizer.push_back(to_json(file));
  // One line per member: readable, and lists do not take a line per number.
  const std::vector<std::pair<std::string, Json>> members = {
      {"format", kFormatName},
      {"format_major", kCheckpointFormatMajor},
      {"format_minor", kCheckpointFormatMinor},
      {"meta", to_json(manifest.meta)},
      {"state_digest", manifest.digest},
      {"tensors", std::move(tensors)},
      {"shards", std::move(shards)},
      {"tokenizer", std::move(tokenizer)}};
  std::string text = "{";
  for (const auto& [key, value] : members) {
    text += fmt::format("{}\n  \"{}\": {}", text.size() > 1 ? "," : "", key,
                        value.dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  const std::string seal = sha256_text(text);
  return text + std::string(kSeal) + seal + std::string(kSealEnd);
}

Manifest parse_manifest(const std::string& text, const std::string& path) {
  const std::size_t tail = kSeal.size() + kHexDigits + kSealEnd.size();
  if (text.size() <= tail) fail_damaged(path, "it is too short");
  const std::string_view body = std::string_view(text).substr(0, text.size() - tail);
  const std::string_view end = std::string_view(text).substr(body.size());
  if (!end.starts_with(kSeal) || !end.ends_with(kSealEnd) ||
      end.substr(kSeal.size(), kHexDigits) != sha256_text(body)) {
    fail_damaged(path, "its own checksum does not match");
  }
  try {
    return manifest_from(Json::parse(text), path);
  } catch (const BadField& bad) {
    fail_damaged(path, bad.text);
  } catch (const Json::exception& error) {
    fail_damaged(path, error.what());
  }
}

Manifest read_manifest(const std::string& directory) {
  const std::string path = directory + "/" + std::string(kManifestName);
  return parse_manifest(read_file(path, kMaxManifestBytes), path);
}

std::string pack(const ShardRecord& record) {
  Packer packer;
  packer.put(record.file);
  packer.put(record.bytes);
  packer.put(record.sha256);
  packer.put(record.ranges);
  packer.put(static_cast<std::uint64_t>(record.chunks.size()));
  for (const ShardRecord::Chunk& chunk : record.chunks) {
    packer.put(chunk.tensor);
    packer.put(chunk.index);
    packer.put(chunk.sha256);
  }
  return packer.bytes();
}

ShardRecord unpack_shard_record(const std::string& bytes) {
  Unpacker unpacker(bytes);
  ShardRecord record;
  std::uint64_t chunks = 0;
  unpacker.get(record.file);
  unpacker.get(record.bytes);
  unpacker.get(record.sha256);
  unpacker.get(record.ranges);
  unpacker.get(chunks);
  for (; chunks > 0; --chunks) {
    ShardRecord::Chunk& chunk = record.chunks.emplace_back();
    unpacker.get(chunk.tensor);
    unpacker.get(chunk.index);
    unpacker.get(chunk.sha256);
  }
  CHECK(unpacker.done(), "{} bytes of a shard record", bytes.size());
  return record;
}

}  // namespace lockstep
