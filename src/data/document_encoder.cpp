// Prompt and completion are encoded apart: no token spans the border between masked and not.
#include "data/document_encoder.h"

#include "core/error.h"

namespace lockstep {
namespace {

void add_text(TokenRun& run, std::string_view text, const Tokenizer& tokenizer, bool counts) {
  const std::size_t begin = run.ids.size();
  tokenizer.encode(text, run.ids);
  run.mark(begin, counts);
}

void end_document(TokenRun& run, const Tokenizer& tokenizer) {
  const std::size_t begin = run.ids.size();
  if (tokenizer.end_of_text() >= 0) run.ids.push_back(tokenizer.end_of_text());
  run.mark(begin, /*counts=*/true);
}

}  // namespace

void DocumentEncoder::each_document(EncodedPiece& counts, const CorpusJob& job,
                                    const UseLine& use) const {
  for_each_line(job.piece, [&](std::string_view line, std::int64_t number) {
    const std::string where = fmt::format("{}:{}", inputs_[job.input].name, number);
    const JsonDocument document = parse_document(line, text_field_, where);
    if (document.bytes() == 0) {
      ++counts.empty_documents;
      return;
    }
    ++counts.documents;
    counts.bytes += document.bytes();
    counts.replaced += document.replaced;
    use(document, number);
  });
}

void DocumentEncoder::encode_line(EncodedPiece& out, const CorpusJob& job,
                                  const JsonDocument& document, std::int64_t number,
                                  const Tokenizer& tokenizer) const {
  if (split_.tail_of_line) {
    const std::string_view text = document.text;
    const auto cut = static_cast<std::size_t>(tail_begin(text, split_.fraction));
    add_text(out.train, text.substr(0, cut), tokenizer, /*counts=*/true);
    add_text(out.val, text.substr(cut), tokenizer, /*counts=*/true);
    end_document(cut < text.size() ? out.val : out.train, tokenizer);
    return;
  }
  const bool held_out =
      split_.fraction > 0.0 && split_.holds_out(job.input, number, document.hash());
  TokenRun& run = held_out ? out.val : out.train;
  if (document.has_prompt) add_text(run, document.prompt, tokenizer, /*counts=*/false);
  add_text(run, document.text, tokenizer, /*counts=*/true);
  end_document(run, tokenizer);
}

EncodedPiece DocumentEncoder::encode(const CorpusJob& job, const Tokenizer& tokenizer) const {
  EncodedPiece out;
  out.input = job.input;
  out.stored = job.piece.stored;
  if (job.lines) {
    each_document(out, job, [&](const JsonDocument& document, std::int64_t number) {
      encode_line(out, job, document, number, tokenizer);
    });
    return out;
  }
  TokenRun& run = job.held_out ? out.val : out.train;
  add_text(run, job.piece.bytes, tokenizer, /*counts=*/true);
  if (job.ends_document) {
    end_document(run, tokenizer);
    ++out.documents;
  }
  out.bytes = static_cast<std::int64_t>(job.piece.bytes.size());
  return out;
}

EncodedPiece DocumentEncoder::visit(const CorpusJob& job,
                                    const std::function<void(std::string_view text)>& use) const {
  EncodedPiece out;
  out.input = job.input;
  out.stored = job.piece.stored;
  if (job.lines) {
    each_document(out, job, [&](const JsonDocument& document, std::int64_t) {
      if (document.has_prompt) use(document.prompt);
      use(document.text);
    });
  } else {
    use(job.piece.bytes);
    out.documents = job.ends_document ? 1 : 0;
  }
  return out;
}

}  // namespace lockstep
