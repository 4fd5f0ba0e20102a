// One file or an index of several, as one list of tensors.
#include "core/error.h"
#include "core/json_nesting.h"
#include "files/file_system.h"
#include "files/input_file.h"
#include "formats/safetensors.h"
#include "formats/safetensors_header.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr std::int64_t kMaxIndexBytes = std::int64_t{64} << 20;
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;  // read at once to be converted
constexpr const char* kWhat = "a .safetensors file";

// tensor -> file
std::map<std::string, std::string> read_index(const std::string& path) {
  const std::string text = InputFile(path, "an index of .safetensors files").text(kMaxIndexBytes);
  check_json_nesting(text, path);
  const json index = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    fail(ExitCode::kData, "{}: not JSON with an object \"weight_map\"", path);
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, value] : index["weight_map"].items()) {
    const std::string name = value.is_string() ? value.get<std::string>() : "";
    if (!is_bare_name(name) || !name.ends_with(".safetensors")) {
      fail(ExitCode::kData,
           "{}: weight_map names '{}' for tensor '{}'; it must be the name of a .safetensors file "
           "in the same directory",
           path, name, tensor);
    }
    files[tensor] = name;
  }
  return files;
}

// Values of type T from byte `begin` on, a piece at a time.
template <typename T>
void read_values(std::span<float> out, const InputFile& file, std::int64_t begin) {
  std::vector<T> piece(std::min(out.size(), kPieceBytes / sizeof(T)));
  while (!out.empty()) {
    const auto values = std::span(piece).first(std::min(out.size(), piece.size()));
    file.read(std::as_writable_bytes(values), begin);
    for (std::size_t i = 0; i < values.size(); ++i) {
      if constexpr (std::is_same_v<T, double>) {
        out[i] = static_cast<float>(values[i]);
      } else {
        out[i] = to_float(values[i]);
      }
    }
    out = out.subspan(values.size());
    begin += static_cast<std::int64_t>(values.size_bytes());
  }
}

}  // namespace

struct SafetensorsReader::State {
  struct Location {
    const InputFile* file;
    std::int64_t begin;  // in the file
    StoredTensor tensor;
  };
  std::vector<std::unique_ptr<InputFile>> files;
  std::map<std::string, Location> locations;
  std::vector<SourceTensor> tensors;

  void add_file(const std::string& path) {
    files.push_back(std::make_unique<InputFile>(path, kWhat));
    const InputFile& file = *files.back();
    const SafetensorsHeader header = parse_safetensors_header(file);
    for (const HeaderEntry& entry : header.entries) {
      const std::int64_t begin = header.data_begin + entry.begin;
      const auto [at, added] =
          locations.emplace(entry.tensor.name, Location{&file, begin, entry.tensor});
      if (!added) {
        fail(ExitCode::kData, "{}: tensor '{}' is also in {}", path, entry.tensor.name,
             at->second.file->path());
      }
    }
  }

  void add_indexed(const std::string& directory, const std::string& index) {
    const std::map<std::string, std::string> map = read_index(index);
    std::set<std::string> names;
    for (const auto& [tensor, name] : map) names.insert(name);
    for (const std::string& name : names) add_file((fs::path(directory) / name).string());
    for (const auto& [tensor, name] : map) {
      const auto at = locations.find(tensor);
      if (at == locations.end() || fs::path(at->second.file->path()).filename() != name) {
        fail(ExitCode::kData, "{}: tensor '{}' is not in {}", index, tensor, name);
      }
    }
  }

  const Location& location(const std::string& name) const {
    const auto at = locations.find(name);
    CHECK(at != locations.end(), "no tensor {}", name);
    return at->second;
  }
};

SafetensorsReader::SafetensorsReader(const std::string& path) : state_(std::make_unique<State>()) {
  std::error_code ignored;
  const std::string single = (fs::path(path) / kSingleName).string();
  const std::string index = (fs::path(path) / kIndexName).string();
  if (!fs::is_directory(path, ignored)) {
    state_->add_file(path);
  } else if (fs::exists(single, ignored)) {
    state_->add_file(single);
  } else if (fs::exists(index, ignored)) {
    state_->add_indexed(path, index);
  } else {
    const bool adapter = fs::exists(fs::path(path) / "adapter_model.safetensors", ignored);
    const bool pickled = fs::exists(fs::path(path) / "pytorch_model.bin", ignored) ||
                         fs::exists(fs::path(path) / "pytorch_model.bin.index.json", ignored);
    fail(ExitCode::kData, "{}: neither {} nor {} is here{}", path, kSingleName, kIndexName,
         adapter   ? "; adapter_model.safetensors is an adapter: merge it into its base model "
                     "(peft's merge_and_unload)"
         : pickled ? "; pytorch_model.bin is not read: save it with safe_serialization=True"
                   : "");
  }
  for (const auto& [name, location] : state_->locations) {
    state_->tensors.push_back({name, Shape(location.tensor.shape), location.tensor.dtype});
  }
}

SafetensorsReader::~SafetensorsReader() = default;
SafetensorsReader::SafetensorsReader(SafetensorsReader&&) noexcept = default;

const std::vector<SourceTensor>& SafetensorsReader::tensors() const { return state_->tensors; }

void SafetensorsReader::read_bytes(std::span<std::byte> out, const std::string& name,
                                   std::int64_t begin) const {
  const State::Location& location = state_->location(name);
  CHECK(begin >= 0 && begin + std::ssize(out) <= location.tensor.bytes(), "{} bytes {}+{}", name,
        begin, out.size());
  location.file->read(out, location.begin + begin);
}

void SafetensorsReader::read(const std::string& name, std::int64_t row_begin,
                             std::span<float> out) {
  const State::Location& location = state_->location(name);
  const StoredTensor& tensor = location.tensor;
  const std::int64_t rows = tensor.shape.empty() ? 1 : tensor.shape.front();
  const std::int64_t element = safetensors_dtype_size(tensor.dtype);
  const std::int64_t row_size = rows == 0 ? 0 : tensor.bytes() / rows;
  const std::int64_t wanted = static_cast<std::int64_t>(out.size()) * element;
  CHECK(row_begin >= 0 && row_begin * row_size + wanted <= tensor.bytes(), "{} rows {}+{} values",
        name, row_begin, out.size());
  if (out.empty()) return;
  const InputFile& file = *location.file;
  const std::int64_t begin = location.begin + row_begin * row_size;
  if (tensor.dtype == "F32") {
    file.read(std::as_writable_bytes(out), begin);
  } else if (tensor.dtype == "BF16") {
    read_values<bf16>(out, file, begin);
  } else if (tensor.dtype == "F16") {
    read_values<f16>(out, file, begin);
  } else if (tensor.dtype == "F64") {
    read_values<double>(out, file, begin);
  } else {
    fail(ExitCode::kData, "{}: tensor '{}' has dtype {}; weights are read from F32, F16, BF16, F64",
         file.path(), name, tensor.dtype);
  }
}

}  // namespace lockstep
