// Documents to tokens: where end-of-text and masks go, with a tokenizer of whole words.
#include "data/document_encoder.h"

#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;

// Each word with the space before it is a token, numbered by its letters; 0 ends a text.
class WordTokenizer : public Tokenizer {
 public:
  std::string_view name() const override { return "words"; }
  std::int64_t vocab_size() const override { return 1 << 20; }
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override {
    while (!text.empty()) {
      const std::size_t size = std::min(text.find(' ', 1), text.size());
      std::int32_t id = 1;
      for (const char c : text.substr(0, size)) id = (id * 31 + c) % (1 << 19) + 1;
      ids.push_back(id);
      text.remove_prefix(size);
    }
  }
  std::string decode(const std::vector<std::int32_t>&) const override { return ""; }
  std::size_t safe_cut(std::string_view text) const override {
    const std::size_t at = text.rfind(' ');
    return at == std::string_view::npos ? 0 : at;
  }
  std::int32_t end_of_text() const override { return 0; }
  const TokenTable& table() const override { return table_; }
  std::vector<NamedText> files() const override { return {}; }
  std::vector<NamedText> hugging_face_files() const override { return {}; }

 private:
  TokenTable table_;
};

using Ids = std::vector<std::int32_t>;
using Mask = std::vector<std::uint8_t>;

class DocumentEncoderTest : public ::testing::Test {
 protected:
  // The whole corpus through reader and encoder, its pieces joined.
  EncodedPiece encode(const std::vector<std::string>& names, double fraction,
                      const Tokenizer& with) {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(dir / name);
    const auto inputs = find_inputs(paths);
    const Split split = choose_split(inputs, fraction, "text", [](auto) {});
    const DocumentEncoder encoder(inputs, split, "text");
    CorpusReader reader(inputs, split, [&](auto text) { return with.safe_cut(text); });
    EncodedPiece all;
    CorpusJob job;
    while (reader.next(job)) {
      const EncodedPiece piece = encoder.encode(job, with);
      join(all.train, piece.train);
      join(all.val, piece.val);
      all.documents += piece.documents;
      all.empty_documents += piece.empty_documents;
      all.bytes += piece.bytes;
    }
    return all;
  }
  static void join(TokenRun& all, const TokenRun& run) {
    const std::size_t begin = all.ids.size();
    all.ids.insert(all.ids.end(), run.ids.begin(), run.ids.end());
    if (run.mask.empty()) {
      all.mark(begin, true);
    } else {
      all.mask.resize(begin, 1);
      all.mask.insert(all.mask.end(), run.mask.begin(), run.mask.end());
    }
  }
  Ids words(const std::vector<std::string>& texts) const {
    Ids ids;
    for (const std::string& text : texts) {
      tokenizer.encode(text, ids);
      ids.push_back(0);
    }
    return ids;
  }
  TempDir dir;
  WordTokenizer tokenizer;
};

TEST_F(DocumentEncoderTest, DocumentsEndWithEndOfText) {
  write_file(dir / "a.txt", "one two three");
  write_file(dir / "b.txt", "four");
  EXPECT_EQ(encode({"a.txt", "b.txt"}, 0.0, tokenizer).train.ids, words({"one two three", "four"}));
  write_file(dir / "c.jsonl", "{\"text\": \"five six\"}\n{\"text\": \"seven\"}\n");
  const EncodedPiece all = encode({"b.txt", "c.jsonl"}, 0.0, tokenizer);
  EXPECT_EQ(all.train.ids, words({"four", "five six", "seven"}));
  EXPECT_TRUE(all.train.mask.empty());
  EXPECT_EQ(all.documents, 3);
  EXPECT_EQ(all.bytes, 4 + 8 + 5);
}

TEST_F(DocumentEncoderTest, PiecesOfALongTextGiveTheTokensOfTheWhole) {
  std::string text;
  for (int i = 0; i < 300'000; ++i) text += fmt::format(" word{}", i);
  write_file(dir / "a.txt", text);
  const EncodedPiece all = encode({"a.txt"}, 0.0, tokenizer);
  EXPECT_EQ(all.train.ids, words({text}));
  EXPECT_EQ(all.documents, 1);
}

TEST_F(DocumentEncoderTest, TheOnlyDocumentIsDividedAndEndsOnce) {
  write_file(dir / "a.txt", "0123456789");
  write_file(dir / "b.jsonl", "{\"text\": \"0123456789\"}");
  for (const char* name : {"a.txt", "b.jsonl"}) {
    const EncodedPiece all = encode({name}, 0.3, tokenizer);
    Ids head;
    tokenizer.encode("0123456", head);
    EXPECT_EQ(all.train.ids, head) << name;
    EXPECT_EQ(all.val.ids, words({"789"})) << name;
    EXPECT_EQ(all.documents, 1);
  }
}

TEST_F(DocumentEncoderTest, PromptsAreMaskedAndEndOfTextCounts) {
  write_file(dir / "a.jsonl", R"({"text": "plain text"}
{"prompt": "what is", "completion": "it now"}
{"text": "more"}
{"prompt": "", "completion": "x"}
{"prompt": "y", "completion": ""}
)");
  const EncodedPiece all = encode({"a.jsonl"}, 0.0, tokenizer);
  Ids expected = words({"plain text"});
  tokenizer.encode("what is", expected);
  for (const std::int32_t id : words({"it now", "more", "x", "y"})) expected.push_back(id);
  EXPECT_EQ(all.train.ids, expected);
  EXPECT_EQ(all.train.mask, (Mask{1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1}));
  EXPECT_EQ(all.documents, 5);
}

// "ab" as one text is one token; as prompt "a" and completion "b" it is two.
TEST_F(DocumentEncoderTest, PromptAndCompletionAreEncodedApart) {
  write_file(dir / "a.jsonl", R"({"prompt": "a", "completion": "b"})");
  Ids expected;
  tokenizer.encode("a", expected);
  tokenizer.encode("b", expected);
  expected.push_back(0);
  EXPECT_EQ(encode({"a.jsonl"}, 0.0, tokenizer).train.ids, expected);
}

TEST_F(DocumentEncoderTest, EmptyDocumentsAreLeftOutAndCounted) {
  write_file(dir / "a.jsonl",
             "{\"text\": \"\"}\n\n{\"text\": \"x\"}\n{\"prompt\": \"\", \"completion\": \"\"}\n");
  const EncodedPiece all = encode({"a.jsonl"}, 0.0, tokenizer);
  EXPECT_EQ(all.train.ids, words({"x"}));
  EXPECT_EQ(all.documents, 1);
  EXPECT_EQ(all.empty_documents, 2);
}

TEST_F(DocumentEncoderTest, BytesHaveNoEndOfText) {
  write_file(dir / "a.jsonl", "{\"text\": \"ab\"}\n{\"prompt\": \"c\", \"completion\": \"d\"}\n");
  const EncodedPiece all = encode({"a.jsonl"}, 0.0, *open_tokenizer("byte"));
  EXPECT_EQ(all.train.ids, (Ids{'a', 'b', 'c', 'd'}));
  EXPECT_EQ(all.train.mask, (Mask{1, 1, 0, 1}));
}

TEST_F(DocumentEncoderTest, VisitingSeesWhatEncodingSees) {
  write_file(dir / "a.jsonl", "{\"text\": \"ab\"}\n{\"prompt\": \"c\", \"completion\": \"d\"}\n");
  write_file(dir / "b.txt", "whole");
  const auto inputs = find_inputs({dir / "a.jsonl", dir / "b.txt"});
  const Split split = choose_split(inputs, 0.0, "text", [](auto) {});
  const DocumentEncoder encoder(inputs, split, "text");
  CorpusReader reader(inputs, split, [](auto text) { return text.size(); });
  std::string seen;
  std::int64_t documents = 0;
  CorpusJob job;
  while (reader.next(job)) {
    documents +=
        encoder.visit(job, [&](auto text) { seen += fmt::format("<{}>", text); }).documents;
  }
  EXPECT_EQ(seen, "<ab><c><d><whole>");
  EXPECT_EQ(documents, 3);
}

TEST_F(DocumentEncoderTest, ErrorsNameFileAndLine) {
  write_file(dir / "a.jsonl", "{\"text\": \"ab\"}\n\n{\"text\": \n");
  expect_error(ExitCode::kData, {dir / "a.jsonl:3: not valid JSON"},
               [&] { encode({"a.jsonl"}, 0.0, tokenizer); });
}

}  // namespace
}  // namespace lockstep
