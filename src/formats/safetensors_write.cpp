// Layout first, then bytes in order; a file is complete when its last tensor is.
#include "core/error.h"
#include "files/durable.h"
#include "formats/safetensors.h"
#include "formats/safetensors_header.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <map>

namespace lockstep {

struct SafetensorsWriter::State {
  struct File {
    std::string name;
    std::size_t first = 0, count = 0;  // of order
  };
  std::string directory;
  std::vector<StoredTensor> order;
  std::vector<File> files;
  std::int64_t total_bytes = 0;
  FileSystem file_system;

  // Where append() stands.
  std::size_t next_file = 0;
  std::size_t tensor = 0;
  std::int64_t written = 0;  // of that tensor
  Descriptor file;
  std::string path;
  std::int64_t offset = 0;

  void split(std::int64_t max_file_bytes) {
    std::int64_t bytes = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (files.empty() || bytes + order[i].bytes() > max_file_bytes) {
        files.push_back({"", i, 0});
        bytes = 0;
      }
      files.back().count += 1;
      bytes += order[i].bytes();
      total_bytes += order[i].bytes();
    }
    for (std::size_t i = 0; i < files.size(); ++i) {
      files[i].name = files.size() == 1
                          ? "model.safetensors"
                          : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, files.size());
    }
  }

  void write(std::span<const std::byte> bytes) {
    const int error = file_system.write_at(file, path, bytes, offset);
    if (error != 0) fail_io(path, "write", error);
    offset += static_cast<std::int64_t>(bytes.size());
  }

  void open_next() {
    const File& next = files[next_file++];
    path = (std::filesystem::path(directory) / next.name).string();
    const int error = file_system.open(file, path, OpenMode::kNew);
    if (error != 0) fail_io(path, "create", error);
    offset = 0;
    const auto first = order.begin() + static_cast<std::ptrdiff_t>(next.first);
    const std::string header =
        safetensors_header_text({first, first + static_cast<std::ptrdiff_t>(next.count)});
    write(std::as_bytes(std::span(header.data(), header.size())));
  }

  void close_current() {
    if (!file) return;
    int error = file_system.sync(file, path);
    const int closed = file_system.close(file, path);
    if (error == 0) error = closed;
    if (error != 0) fail_io(path, "sync", error);
  }

  // Empty tensors take no bytes and are complete at once.
  void skip_complete() {
    while (tensor < order.size() && written == order[tensor].bytes()) {
      ++tensor;
      written = 0;
      if (next_file < files.size() && tensor == files[next_file].first) {
        close_current();
        open_next();
      }
    }
  }
};

SafetensorsWriter::SafetensorsWriter(std::string directory, std::vector<StoredTensor> tensors,
                                     std::int64_t max_file_bytes)
    : state_(std::make_unique<State>()) {
  state_->directory = std::move(directory);
  state_->order = std::move(tensors);
  std::sort(state_->order.begin(), state_->order.end(),
            [](const StoredTensor& a, const StoredTensor& b) {
              const std::int64_t a_size = safetensors_dtype_size(a.dtype);
              const std::int64_t b_size = safetensors_dtype_size(b.dtype);
              return a_size != b_size ? a_size > b_size : a.name < b.name;
            });
  state_->split(max_file_bytes);
  CHECK(!state_->files.empty(), "a model without tensors");
  state_->open_next();
  state_->skip_complete();
}

SafetensorsWriter::~SafetensorsWriter() = default;

const std::vector<StoredTensor>& SafetensorsWriter::order() const { return state_->order; }

void SafetensorsWriter::append(const std::string& name, std::span<const std::byte> bytes) {
  State& s = *state_;
  CHECK(s.tensor < s.order.size() && s.order[s.tensor].name == name, "{} out of turn", name);
  s.written += static_cast<std::int64_t>(bytes.size());
  CHECK(s.written <= s.order[s.tensor].bytes(), "{}: too many bytes", name);
  s.write(bytes);
  s.skip_complete();
}

std::vector<std::string> SafetensorsWriter::finish() {
  State& s = *state_;
  CHECK(s.tensor == s.order.size(), "{} is incomplete", s.order[s.tensor].name);
  s.close_current();
  std::vector<std::string> names;
  for (const State::File& file : s.files) names.push_back(file.name);
  if (names.size() == 1) return names;
  nlohmann::ordered_json index;
  index["metadata"] = {{"total_size", s.total_bytes}};
  std::map<std::string, std::string> map;
  for (const State::File& file : s.files) {
    for (std::size_t i = 0; i < file.count; ++i) map[s.order[file.first + i].name] = file.name;
  }
  index["weight_map"] = map;
  names.emplace_back("model.safetensors.index.json");
  write_new_file((std::filesystem::path(s.directory) / names.back()).string(), index.dump(2) + "\n",
                 s.file_system);
  return names;
}

}  // namespace lockstep
