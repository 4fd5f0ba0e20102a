// Errors come from rooms that serve `train` first and name its configuration keys. Commands that
// have flags instead say which flag is meant.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace lockstep {

// Phrases and what stands for them, tried in this order.
using CommandWords = std::vector<std::pair<std::string, std::string>>;

CommandWords eval_words();
CommandWords export_words();
CommandWords generate_words();

std::string in_words_of(const CommandWords& words, std::string message);

// Runs `work`; a UserError or CollectiveError leaves it with its message in these words.
int run_in_words_of(const CommandWords& words, const std::function<int()>& work);

}  // namespace lockstep
