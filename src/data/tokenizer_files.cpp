// The list of names, and files read whole: none of them is long, and a checkpoint needs them when
// the directory they came from may be gone.
#include "data/tokenizer_files.h"

#include "core/error.h"
#include "data/file.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMostBytes = std::int64_t{256} << 20;  // of tokenizer.json
constexpr std::int64_t kMostOtherBytes = 16 << 20;
constexpr std::array<std::string_view, 7> kBeside = {
    kTokenizerConfig,    kSpecialTokens, kChatTemplate, kGenerationConfig,
    "added_tokens.json", "merges.txt",   "vocab.json"};
constexpr std::array<std::string_view, 2> kTemplateFolders = {"additional_chat_templates/",
                                                              "chat_templates/"};
constexpr std::string_view kTemplateSuffix = ".jinja";

std::string read_text(const fs::path& path, std::int64_t limit) {
  const OpenFile file = open_for_read(path.string(), "a tokenizer");
  if (file.bytes < 0 || file.bytes > limit) {
    fail(ExitCode::kData, "{}: {} bytes; no file of a tokenizer is that long or no file",
         path.string(), file.bytes);
  }
  std::string text(static_cast<std::size_t>(file.bytes), '\0');
  read_at(file.fd, text.data(), text.size(), 0, path.string());
  return text;
}

std::vector<std::string> template_files(const fs::path& directory) {
  std::vector<std::string> names;
  for (const std::string_view folder : kTemplateFolders) {
    std::error_code error;
    for (fs::directory_iterator it(directory / folder, error), end; !error && it != end;
         it.increment(error)) {
      const std::string name = std::string(folder) + it->path().filename().string();
      if (!chat_template_name(name).empty() && it->is_regular_file(error)) names.push_back(name);
    }
  }
  return names;
}

}  // namespace

std::string chat_template_name(const std::string& file) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  for (const std::string_view folder : kTemplateFolders) {
    if (!file.starts_with(folder) || !file.ends_with(kTemplateSuffix)) continue;
    const std::size_t size = file.size() - folder.size() - kTemplateSuffix.size();
    std::string name = file.substr(folder.size(), size);
    return name.find_first_not_of(kPlain) == std::string::npos ? name : "";
  }
  return "";
}

std::vector<NamedText> read_tokenizer_files(const std::string& tokenizer_json) {
  const fs::path directory = fs::path(tokenizer_json).parent_path();
  std::vector<std::string> names = template_files(directory);
  for (const std::string_view name : kBeside) {
    std::error_code ignored;
    if (fs::exists(directory / name, ignored)) names.emplace_back(name);
  }
  std::vector<NamedText> files = {{kTokenizerJson, read_text(tokenizer_json, kMostBytes)}};
  for (const std::string& name : names) {
    files.push_back({name, read_text(directory / name, kMostOtherBytes)});
  }
  std::sort(files.begin(), files.end(),
            [](const NamedText& a, const NamedText& b) { return a.name < b.name; });
  return files;
}

void write_tokenizer_files(const std::string& directory, const std::vector<NamedText>& files) {
  for (const NamedText& file : files) {
    const fs::path path = fs::path(directory) / file.name;
    std::error_code error;
    fs::create_directories(path.parent_path(), error);
    if (error) fail_write(path.parent_path().string(), error.value());
    const Fd fd = create_file(path.string());
    write_all(fd, file.text.data(), file.text.size(), path.string());
    sync_file(fd, path.string());
    if (file.name.find('/') != std::string::npos) sync_directory(path.parent_path().string());
  }
}

const std::string* find_text(const std::vector<NamedText>& files, const std::string& name) {
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const NamedText& file) { return file.name == name; });
  return found == files.end() ? nullptr : &found->text;
}

}  // namespace lockstep
