// What the run directory's tests share: a scratch folder per test and plain file helpers.
#pragma once

#include "core/error.h"
#include "core/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace lockstep::test {

class RunFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "lockstep_run_XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    scratch_ = name;
    run_ = scratch_ + "/run";
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(scratch_, ignored);
  }

  static void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << text;
  }
  static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  static std::vector<std::string> lines(const std::string& path) {
    std::vector<std::string> all;
    std::istringstream text(read(path));
    for (std::string line; std::getline(text, line);) all.push_back(line);
    return all;
  }
  static ino_t inode(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
  }
  // Sets the modification time to `seconds` ago.
  static void make_older(const std::string& path, double seconds) {
    timespec times[2]{};
    ::clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= static_cast<time_t>(seconds);
    times[1] = times[0];
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  }

  // The code and text of the UserError that `action` throws; fails the test if it throws none.
  struct Caught {
    ExitCode code = ExitCode::kDone;
    std::string message;
  };
  static Caught error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const UserError& error) {
      return {error.code(), error.what()};
    }
    ADD_FAILURE() << "no UserError";
    return {};
  }

  // Runs `action` in a child that leaves without any clean-up, as if it were killed; its result is
  // the exit code. The child is a zombie until wait_for().
  static pid_t start_child(const std::function<int()>& action) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(action());
    return child;
  }
  static int wait_for(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  Log log_{0};
  std::string scratch_;
  std::string run_;
};

}  // namespace lockstep::test
