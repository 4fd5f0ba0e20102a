// What is taken from a model's directory, and that it comes back unchanged.
#include "data/tokenizer_files.h"

#include "bpe_fixture.h"

#include <algorithm>
#include <filesystem>

namespace lockstep {
namespace {

using test::TempDir;
using test::write_file;
using Names = std::vector<std::string>;

Names names_of(const std::vector<NamedText>& files) {
  Names names;
  for (const NamedText& file : files) names.push_back(file.name);
  std::sort(names.begin(), names.end());
  return names;
}

class TokenizerFiles : public ::testing::Test {
 protected:
  TokenizerFiles() {
    for (const char* name :
         {".gitattributes", "model.safetensors", "config.json", "README.md", "tokenizer.model",
          "vocab.json", "merges.txt", "generation_config.json", "onnx/model.onnx",
          "additional_chat_templates/rag.jinja", "additional_chat_templates/odd name.jinja",
          "additional_chat_templates/notes.txt", "chat_template.jinja"}) {
      write_file(dir / name, std::string("content of ") + name);
    }
    write_file(dir / "tokenizer.json", test::bpe_json({"t h"}).dump(3));
    write_file(dir / "tokenizer_config.json", R"({"chat_template": "older"})");
  }
  TempDir dir;
};

TEST_F(TokenizerFiles, OnlyTheTokenizersAreTaken) {
  EXPECT_EQ(
      names_of(read_tokenizer_files(dir / "tokenizer.json")),
      (Names{"additional_chat_templates/rag.jinja", "chat_template.jinja", "generation_config.json",
             "merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"}));
}

TEST_F(TokenizerFiles, TheyAreSavedUnchanged) {
  const TempDir out;
  const auto bpe = open_tokenizer(dir.path());
  EXPECT_EQ(bpe->generation_config(), "content of generation_config.json");
  bpe->save(out.path());
  for (const NamedText& file : read_tokenizer_files(dir / "tokenizer.json")) {
    EXPECT_EQ(test::read_file(out / file.name), file.text) << file.name;
  }
  EXPECT_EQ(names_of(open_tokenizer(out.path())->files()), names_of(bpe->files()));
  Names exported = names_of(bpe->hugging_face_files());
  EXPECT_EQ(std::count(exported.begin(), exported.end(), "generation_config.json"), 0);
}

TEST_F(TokenizerFiles, TemplatesInFilesStandBeforeTheConfigs) {
  const ChatTemplates chat = open_tokenizer(dir.path())->table().chat;
  EXPECT_EQ(chat.standard, "content of chat_template.jinja");
  ASSERT_EQ(chat.named.size(), 1U);
  EXPECT_EQ(chat.named[0].first, "rag");
  std::filesystem::remove(dir / "chat_template.jinja");
  std::filesystem::remove_all(dir / "additional_chat_templates");
  EXPECT_EQ(open_tokenizer(dir.path())->table().chat.standard, "older");
}

TEST_F(TokenizerFiles, AnAbsurdFileIsNamed) {
  write_file(dir / "merges.txt", "");
  std::filesystem::resize_file(dir / "merges.txt", std::uintmax_t{3} << 30);
  test::expect_error(ExitCode::kData,
                     {dir / "merges.txt", "has 3.0 GiB where at most 16.0 MiB make sense"},
                     [&] { open_tokenizer(dir.path()); });
}

TEST_F(TokenizerFiles, NamesOfTemplates) {
  EXPECT_EQ(chat_template_name("additional_chat_templates/tool_use.jinja"), "tool_use");
  EXPECT_EQ(chat_template_name("chat_templates/rag.jinja"), "rag");
  EXPECT_EQ(chat_template_name("chat_template.jinja"), "");
  EXPECT_EQ(chat_template_name("additional_chat_templates/../x.jinja"), "");
  EXPECT_EQ(chat_template_name("additional_chat_templates/.jinja"), "");
}

}  // namespace
}  // namespace lockstep
