// A command line around the tokenizers, for tests that compare them with Hugging Face's library.
// Texts and ids travel in records: a 32-bit count, then that many bytes or 32-bit ids.
#include "core/error.h"
#include "data/bpe_train.h"
#include "data/tokenizer.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace lockstep {
namespace {

constexpr std::size_t kPiece = 1 << 20;

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<std::string_view> records_of(const std::string& content, std::size_t item) {
  std::vector<std::string_view> records;
  for (std::size_t pos = 0; pos + 4 <= content.size();) {
    std::uint32_t count = 0;
    std::copy_n(content.data() + pos, 4, reinterpret_cast<char*>(&count));
    records.push_back(std::string_view(content).substr(pos + 4, count * item));
    pos += 4 + count * item;
  }
  return records;
}

void write_record(std::ofstream& out, const void* data, std::size_t count, std::size_t item) {
  const auto size = static_cast<std::uint32_t>(count);
  out.write(reinterpret_cast<const char*>(&size), 4);
  out.write(static_cast<const char*>(data), static_cast<std::streamsize>(count * item));
}

// Whole texts, or cut wherever safe_cut() allows.
void encode_records(const Tokenizer& tokenizer, const std::string& in, const std::string& out) {
  const std::string content = read_all(in);
  std::ofstream file(out, std::ios::binary);
  std::vector<std::int32_t> ids;
  for (const std::string_view text : records_of(content, 1)) {
    ids.clear();
    tokenizer.encode(text, ids);
    write_record(file, ids.data(), ids.size(), sizeof ids[0]);
  }
}

void decode_records(const Tokenizer& tokenizer, const std::string& in, const std::string& out) {
  const std::string content = read_all(in);
  std::ofstream file(out, std::ios::binary);
  for (const std::string_view record : records_of(content, 4)) {
    std::vector<std::int32_t> ids(record.size() / 4);
    std::copy(record.begin(), record.end(), reinterpret_cast<char*>(ids.data()));
    const std::string text = tokenizer.decode(ids);
    write_record(file, text.data(), text.size(), 1);
  }
}

std::vector<std::string_view> pieces_of(const std::string& text, const auto& safe_cut) {
  std::vector<std::string_view> pieces;
  for (std::string_view rest = text; !rest.empty(); rest.remove_prefix(pieces.back().size())) {
    const std::size_t cut = rest.size() > kPiece ? safe_cut(rest.substr(0, kPiece)) : rest.size();
    pieces.push_back(rest.substr(0, cut == 0 ? rest.size() : cut));
  }
  return pieces;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Encodes a file in pieces on that many threads, three times, and prints the best.
void time_encoding(const Tokenizer& tokenizer, const std::string& path, int threads) {
  const std::string text = read_all(path);
  const auto pieces = pieces_of(text, [&](std::string_view t) { return tokenizer.safe_cut(t); });
  double best = 1e9;
  std::size_t tokens = 0;
  for (int round = 0; round < 3; ++round) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::size_t> counts(static_cast<std::size_t>(threads));
    std::vector<std::thread> workers;
    for (std::size_t worker = 0; worker < counts.size(); ++worker) {
      workers.emplace_back([&, worker] {
        std::vector<std::int32_t> ids;
        for (std::size_t i = worker; i < pieces.size(); i += counts.size()) {
          ids.clear();
          tokenizer.encode(pieces[i], ids);
          counts[worker] += ids.size();
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    best = std::min(best, seconds_since(start));
    tokens = 0;
    for (const std::size_t count : counts) tokens += count;
  }
  fmt::print("{{\"seconds\": {:.4f}, \"tokens\": {}, \"bytes\": {}}}\n", best, tokens, text.size());
}

void train(const std::vector<std::string>& args) {
  BpeTrainOptions options;
  options.pre_tokenizer = args[2];
  options.vocab = std::stoll(args[3]);
  const auto start = std::chrono::steady_clock::now();
  BpeTrainer trainer(options);
  const std::string text = read_all(args[4]);
  for (const auto piece : pieces_of(text, [&](auto t) { return trainer.safe_cut(t); })) {
    trainer.add(piece);
  }
  std::ofstream(args[5] + "/tokenizer.json") << trainer.finish({});
  std::ofstream(args[5] + "/tokenizer_config.json") << trainer.config_text();
  fmt::print("{{\"seconds\": {:.3f}}}\n", seconds_since(start));
}

int run(const std::vector<std::string>& args) {
  const std::string mode = args.size() > 2 ? args[1] : "";
  if (mode == "encode" && args.size() == 5) {
    encode_records(*open_tokenizer(args[2]), args[3], args[4]);
  } else if (mode == "decode" && args.size() == 5) {
    decode_records(*open_tokenizer(args[2]), args[3], args[4]);
  } else if (mode == "time" && args.size() == 5) {
    time_encoding(*open_tokenizer(args[2]), args[3], std::stoi(args[4]));
  } else if (mode == "train" && args.size() == 6) {
    train(args);
  } else if (mode == "save" && args.size() == 4) {
    open_tokenizer(args[2])->save_hugging_face(args[3]);
  } else {
    fail(ExitCode::kUsage,
         "encode|decode TOKENIZER IN OUT, time TOKENIZER TEXT THREADS, train PRE VOCAB TEXT DIR, "
         "save TOKENIZER DIR");
  }
  return 0;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  try {
    return lockstep::run({argv, argv + argc});
  } catch (const lockstep::UserError& error) {
    fmt::print(stderr, "tokenize_probe: {}\n", error.what());
    return static_cast<int>(error.code());
  }
}
