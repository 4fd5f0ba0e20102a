// The file's one line is a plan as the kernels print it: the library and card, then a word
// "PRODUCT=CHOICE" for each product.
#include "app/gemm_plan_file.h"

#include "core/error.h"
#include "files/durable.h"
#include "files/input_file.h"
#include "files/staged.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <map>
#include <sstream>
#include <thread>

namespace lockstep {
namespace {

constexpr std::int64_t kMostBytes = 1 << 24;
constexpr auto kPatience = std::chrono::minutes(2);  // longer than any search

std::string cache_directory(const Environment& environment) {
  if (const char* cache = environment("XDG_CACHE_HOME"); cache != nullptr && cache[0] == '/') {
    return std::string(cache) + "/lockstep";
  }
  const char* home = environment("HOME");
  return home != nullptr && home[0] == '/' ? std::string(home) + "/.cache/lockstep" : "";
}

}  // namespace

GemmPlanFile::GemmPlanFile(const std::string& empty_plan, const Environment& environment)
    : empty_(empty_plan) {
  const std::string directory = cache_directory(environment);
  if (directory.empty()) return;
  std::string name = empty_plan;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == ' ' || c == '/'; }, '_');
  path_ = directory + "/gemm_" + name + ".txt";
  try {
    make_directories(directory);
  } catch (const UserError&) {
    return;  // add() says why
  }
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (lock_.try_take(path_ + ".lock") == EWOULDBLOCK && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

std::string GemmPlanFile::read() const {
  if (path_.empty()) return empty_;
  try {
    const std::string text = read_file(path_, kMostBytes);
    return text.substr(0, text.find('\n'));
  } catch (const UserError&) {
    return empty_;
  }
}

std::string GemmPlanFile::add(const std::string& plan) const {
  if (path_.empty()) return "no home directory to keep the matrix products' algorithms in";
  const std::string known = read();
  const std::string all = joined_plans(empty_, known, plan);
  if (all == known) return "";
  try {
    make_directories(path_.substr(0, path_.rfind('/')));
    atomic_write_file(path_, all + "\n");
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

std::string joined_plans(const std::string& empty, const std::string& a, const std::string& b) {
  std::map<std::string, std::string> choices;
  for (const std::string& plan : {a, b}) {
    if (plan.compare(0, empty.size(), empty) != 0) continue;
    std::istringstream words(plan.substr(empty.size()));
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      if (equals != word.npos) choices[word.substr(0, equals)] = word.substr(equals);
    }
  }
  std::string joined = empty;
  for (const auto& [product, choice] : choices) joined += " " + product + choice;
  return joined;
}

}  // namespace lockstep
