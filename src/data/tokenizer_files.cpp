// The list of names, and files read whole: none of them is long, and a checkpoint needs them when
// the directory they came from may be gone.
#include "data/tokenizer_files.h"

#include "core/error.h"
#include "files/durable.h"
#include "files/input_file.h"
#include "files/staged.h"

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
  return InputFile(path.string(), "a tokenizer").text(limit);
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
    make_directories(path.parent_path().string());
    atomic_write_file(path.string(), file.text);
  }
}

const std::string* find_text(const std::vector<NamedText>& files, const std::string& name) {
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const NamedText& file) { return file.name == name; });
  return found == files.end() ? nullptr : &found->text;
}

}  // namespace lockstep
